"""Patchout: drop patches at random in training (Koutini et al. 2022, https://arxiv.org/abs/2110.05069).

The dropped tokens are removed, not masked, so that the encoder needs less time and memory.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Size n -> permutations of range(n), shape (R, n)
Permute = Callable[[int], Tensor]


def random_permutations(num_draws: int = 1, generator: torch.Generator | None = None) -> Permute:
    """A source of `num_draws` independent permutations per size.

    They are drawn on the device of the generator, by default the CPU: a seed gives the same ones on every device.
    Compiled code draws several at once, so that its permutations differ from those of eager code with the same seed.
    """

    def permute(size: int) -> Tensor:
        if generator is not None:
            draws = [torch.randperm(size, generator=generator, device=generator.device) for _ in range(num_draws)]
            return torch.stack(draws)
        # No loop in compiled code, where it would fix the batch size
        if torch.compiler.is_compiling() and num_draws > 1:
            return torch.rand(num_draws, size).argsort(dim=1)
        return torch.stack([torch.randperm(size) for _ in range(num_draws)])

    return permute


def patchout_indices(
    grid: tuple[int, int],
    permute: Permute,
    *,
    time_patchout: int = 0,
    frequency_patchout: int = 0,
    unstructured_patchout: int = 0,
) -> Tensor:
    """Choose the patches that stay, in the official order: drop columns first, then rows, then single patches.

    Each step keeps the first n - k numbers of a permutation, sorted (PaSST models/passt.py:532-552), and draws only if
    it drops something.

    Args:
        grid: Rows and columns of the patch grid (F', T').
        permute: Source of the permutations, as `random_permutations` returns it; it is called with the numbers of
            columns, of rows, and of the patches left, in this order, and returns R permutations: one for the whole
            batch, or one per clip.
        time_patchout: Columns to drop.
        frequency_patchout: Rows to drop.
        unstructured_patchout: Single patches to drop.

    Returns:
        Row-major patch numbers in ascending order, shape (R, K), or (1, K) if nothing is drawn.

    Raises:
        ValueError: A step would leave nothing. (The official code then keeps no patch, or a random number of them.)
    """
    num_rows, num_columns = grid
    columns = _kept(num_columns, permute, "time_patchout", time_patchout)
    rows = _kept(num_rows, permute, "frequency_patchout", frequency_patchout)
    patches = (rows.unsqueeze(2) * num_columns + columns.unsqueeze(1)).flatten(1)
    if not unstructured_patchout:
        return patches
    single = _kept(patches.shape[1], permute, "unstructured_patchout", unstructured_patchout)
    return patches.expand(len(single), -1).gather(1, single)


def _kept(size: int, permute: Permute, name: str, num_dropped: int) -> Tensor:
    """The sorted numbers below `size` that stay, shape (R, size - num_dropped)."""
    if not num_dropped:
        return torch.arange(size).unsqueeze(0)
    if not 0 < num_dropped < size:
        raise ValueError(f"{name}={num_dropped} must be between 0 and {size - 1}; lower it, or train on longer clips.")
    return permute(size)[:, : size - num_dropped].sort(dim=1).values


def keep_one_real(indices: Tensor, patch_mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Replace one padded patch by a random real one in every clip that would keep no real patch.

    Args:
        indices: Patches that stay, shape (R, K) with R = 1 or B.
        patch_mask: True for real patches, at least one per clip, shape (B, N).
        generator: Source of randomness; the global one if None.

    Returns:
        Patches that stay, shape (B, K).
    """
    indices = indices.expand(patch_mask.shape[0], -1)
    none_real = ~patch_mask.gather(1, indices).any(dim=1, keepdim=True)
    if generator is None:  # not passed on: torch.compile refuses `generator=None` when the shape changes
        lottery = torch.rand(patch_mask.shape, device=patch_mask.device)
    else:
        lottery = torch.rand(patch_mask.shape, generator=generator, device=generator.device).to(patch_mask.device)
    one_real = lottery.masked_fill(~patch_mask, -1.0).argmax(dim=1, keepdim=True)
    return torch.cat((torch.where(none_real, one_real, indices[:, :1]), indices[:, 1:]), dim=1)


class Patchout(nn.Module):
    """Removes patch tokens in training mode, and none in eval mode.

    Every patch, padded or not, is equally likely to go, so each clip of a padded batch loses the same share of its
    real patches on average; a short clip that would lose all of them keeps a random one.

    Args:
        time_patchout: Columns to drop.
        frequency_patchout: Rows to drop.
        unstructured_patchout: Single patches to drop, of those that the two others leave.
        per_clip: Whether to draw for each clip; by default, as in the official code, once for the whole batch.
        permute: Source of the permutations for `patchout_indices`, such as recorded ones; by default
            `random_permutations`.
    """

    def __init__(
        self,
        time_patchout: int = 0,
        frequency_patchout: int = 0,
        unstructured_patchout: int = 0,
        *,
        per_clip: bool = False,
        permute: Permute | None = None,
    ):
        super().__init__()
        self.numbers = {
            "time_patchout": time_patchout,
            "frequency_patchout": frequency_patchout,
            "unstructured_patchout": unstructured_patchout,
        }
        for name, number in self.numbers.items():
            if number < 0:
                raise ValueError(f"{name}={number} must not be negative; 0 drops nothing.")
        self.per_clip = per_clip
        self.permute = permute

    def extra_repr(self) -> str:
        """The settings, for `print(model)`."""
        return ", ".join(f"{name}={value}" for name, value in (*self.numbers.items(), ("per_clip", self.per_clip)))

    def forward(
        self,
        tokens: Tensor,
        token_mask: Tensor | None,
        grid: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Drop patches; prefix tokens always stay.

        Args:
            tokens: Shape (B, P + F' * T', D), positions added.
            token_mask: True for real tokens, shape (B, P + F' * T'), or None if all are.
            grid: Rows and columns of the patch grid (F', T').
            generator: Source of randomness; the global one if None.

        Returns:
            Tokens that stay (B, P + K, D), their mask (B, P + K) or None, and the row-major numbers of the patches
            that stay (1 or B, K), or None if all do.
        """
        if not self.training or not any(self.numbers.values()):
            return tokens, token_mask, None
        batch_size, num_tokens = tokens.shape[:2]
        num_prefix_tokens = num_tokens - grid[0] * grid[1]
        permute = self.permute or random_permutations(batch_size if self.per_clip else 1, generator)
        indices = patchout_indices(grid, permute, **self.numbers).to(tokens.device)
        if token_mask is not None:
            indices = keep_one_real(indices, token_mask[:, num_prefix_tokens:], generator)
        prefix = torch.arange(num_prefix_tokens, device=tokens.device).expand(len(indices), -1)
        kept = indices
        indices = torch.cat((prefix, kept + num_prefix_tokens), dim=1)
        if len(indices) == 1:  # faster than `gather`, in the forward and the backward pass
            tokens = tokens.index_select(1, indices[0])
        else:
            tokens = tokens.gather(1, indices.unsqueeze(2).expand(-1, -1, tokens.shape[2]))
        return tokens, None if token_mask is None else token_mask.gather(1, indices), kept
