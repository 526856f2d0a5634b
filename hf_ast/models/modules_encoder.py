"""Pre-norm transformer encoder layer with fused query, key and value, as in timm's and DeiT's ViT.

Attention itself is a plain function that the caller may choose: `sdpa_attention`, `eager_attention` (the one
that also returns the weights), or any function of the same signature, such as transformers' own interfaces.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]


def sdpa_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention with torch's fused kernels.

    Args:
        module: The calling layer (unused; part of the common signature).
        query, key, value: Shape (B, heads, N, D / heads).
        attention_mask: Broadcastable to (B, heads, N, N): either boolean (True = attend) or added to the scores.
        dropout: Dropout probability of the attention weights; the caller passes 0 in eval mode.
        scaling: Factor for the scores; 1 / sqrt(D / heads) if None.

    Returns:
        Context of shape (B, N, heads, D / heads), and None for the weights, which the kernels never materialise.
    """
    context = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
    )
    return context.transpose(1, 2), None


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Like `sdpa_attention`, but also returns the weights, shape (B, heads, N, N)."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(-2, -1) * scaling
    if attention_mask is not None:
        scores = _masked(scores, attention_mask)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=dropout > 0.0)
    return (weights @ value).transpose(1, 2), weights


def per_head_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Like `sdpa_attention`, but with matrix products, one head at a time: faster in bfloat16 on a CPU.

    torch's fused CPU kernel is hardly faster in bfloat16 than in float32; matrix products are twice as fast, and the
    scores of one head stay in the cache. The scores are rounded to the dtype of the query, so that in bfloat16 the
    error of the context is two to three times that of the fused kernel.
    """
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    contexts = []
    for head in range(query.shape[1]):
        scores = query[:, head] @ key[:, head].mT
        if attention_mask is not None:
            scores = _masked(scores, attention_mask[:, head if attention_mask.shape[1] > 1 else 0])
        weights = nn.functional.dropout(scores.softmax(dim=-1), p=dropout, training=dropout > 0.0)
        contexts.append(weights @ value[:, head])
    return torch.stack(contexts, dim=2), None


def _masked(scores: Tensor, attention_mask: Tensor) -> Tensor:
    """Apply a mask that is either boolean (True = attend) or added to the scores."""
    if attention_mask.dtype == torch.bool:
        return scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    return scores + attention_mask


class SelfAttention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value."""

    def __init__(self, hidden_size: int, num_heads: int, *, qkv_bias: bool = True, dropout: float = 0.0):
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size={hidden_size} must be a multiple of num_heads={num_heads}.")
        self.num_heads = num_heads
        self.dropout = dropout
        self.scaling = (hidden_size // num_heads) ** -0.5
        self.is_causal = False  # transformers' sdpa interface reads it, and assumes True if it is absent
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=qkv_bias)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *,
        attention_function: AttentionFunction = sdpa_attention,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Hidden states (B, N, D) -> the same shape, and the attention weights if the function returns them."""
        batch_size, num_tokens, hidden_size = hidden_states.shape
        qkv = self.qkv(hidden_states).view(batch_size, num_tokens, 3, self.num_heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        context, weights = attention_function(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.proj(context.reshape(batch_size, num_tokens, hidden_size)), weights


def quick_gelu(values: Tensor) -> Tensor:
    """X sigmoid(1.702 x), which approximates GELU (OpenAI's CLIP)."""
    return values * torch.sigmoid(1.702 * values)


# By transformers' names; three of them are the same approximation of GELU by tanh
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "gelu_fast": nn.GELU(approximate="tanh"),
    "gelu_new": nn.GELU(approximate="tanh"),
    "gelu_python": nn.functional.gelu,
    "gelu_pytorch_tanh": nn.GELU(approximate="tanh"),
    "quick_gelu": quick_gelu,
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
    "swish": nn.functional.silu,
}


class FeedForward(nn.Module):
    """Two linear layers with an activation between them; back to the hidden size unless `output_size` is given."""

    def __init__(
        self, hidden_size: int, intermediate_size: int, *, activation: str = "gelu", output_size: int | None = None
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is unknown; choose one of {sorted(ACTIVATIONS)}.")
        self.activation = ACTIVATIONS[activation]
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.fc2 = nn.Linear(intermediate_size, output_size or hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., D) -> (..., output size)."""
        return self.fc2(self.activation(self.fc1(hidden_states)))


def drop_path(residual: Tensor, probability: float) -> Tensor:
    """Zero whole clips of a residual branch at random, and scale the others up (stochastic depth).

    Args:
        residual: Output of the branch, shape (B, ...).
        probability: Probability of dropping a clip's branch, in [0, 1).
    """
    keep = 1.0 - probability
    kept = residual.new_empty(residual.shape[:1] + (1,) * (residual.ndim - 1)).bernoulli_(keep)
    return residual * kept / keep


class DropPath(nn.Module):
    """`drop_path` in training mode, the identity in eval mode."""

    def __init__(self, probability: float = 0.0):
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise ValueError(f"drop path probability {probability} must be in [0, 1).")
        self.probability = probability

    def forward(self, residual: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        return drop_path(residual, self.probability) if self.training and self.probability else residual


def drop_path_rates(rate: float, num_layers: int) -> list[float]:
    """Per-layer probabilities that grow linearly from 0 to `rate`, as in timm and DeiT."""
    return [rate * i / max(num_layers - 1, 1) for i in range(num_layers)]


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(
        self,
        hidden_size: int,
        attention: nn.Module,
        feed_forward: nn.Module,
        *,
        dropout: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_norm_eps: float = 1e-6,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.attention = attention
        self.norm2 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Hidden states (B, N, D) -> (B, N, D); `kwargs` go to the attention function."""
        attended, _ = self.attention(self.norm1(hidden_states), attention_mask, **kwargs)
        hidden_states = hidden_states + self.drop_path(self.dropout(attended))
        transformed = self.feed_forward(self.norm2(hidden_states))
        return hidden_states + self.drop_path(self.dropout(transformed))
