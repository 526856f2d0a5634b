"""The convolutional stem of fPaSST: from a spectrogram to one token per 40 ms.

Schmid et al. 2025, https://arxiv.org/abs/2409.09546; PretrainedSED models/frame_passt/fpasst.py.
"""

import torch
from torch import Tensor, nn

from .modules_embeddings import SpectrogramEmbeddings, in_range, move_to_start

# Output channels and stride of the three convolutions of 3 x 3
STEM = ((16, 2), (32, 1), (64, 2))
# Frames per token: the product of the strides
FRAMES_PER_TOKEN = 4
# Channels and mel rows after the reshape
NUM_CHANNELS = 16


class ConvStemPatchEmbedding(nn.Module):
    """Three convolutions with exact GELU, and a projection of two neighbouring columns to a token.

    Args:
        hidden_size: D.
        num_mel_bins: M; the kernel of the projection is as high.
    """

    def __init__(self, hidden_size: int, num_mel_bins: int):
        super().__init__()
        self.num_mel_bins = num_mel_bins
        channels = (1, *(size for size, _ in STEM))
        self.stem = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1)
            for before, (after, stride) in zip(channels, STEM, strict=False)
        )
        self.projection = nn.Conv2d(NUM_CHANNELS, hidden_size, kernel_size=(num_mel_bins, 2))

    def forward(self, input_values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Spectrogram (B, T, M) -> tokens (B, 1, T', D), T' = ceil(T / 4), in the dtype of the weights.

        Args:
            input_values: Normalised log-mel spectrograms of any float dtype.
            frame_mask: True for real frames, which come first in each clip, shape (B, T). Padding is zero at every
                step, as beyond the end of a clip that is alone.
        """
        columns = input_values.to(self.projection.weight.dtype).transpose(1, 2).unsqueeze(1)  # (B, 1, M, T)
        columns = _without_padding(columns, frame_mask)
        for convolution, (_, stride) in zip(self.stem, STEM, strict=True):
            columns = nn.functional.gelu(in_range(convolution(columns)))
            frame_mask = None if frame_mask is None else frame_mask[:, ::stride]
            columns = _without_padding(columns, frame_mask)
        # (B, 64, M / 4, T') -> (B, 16, M, T'): a reshape, not a permutation (fpasst.py:469)
        columns = columns.reshape(columns.shape[0], NUM_CHANNELS, self.num_mel_bins, -1)
        # A token sees columns t and t + 1, and zeros after the last one (fpasst.py:290-298)
        tokens = in_range(self.projection(nn.functional.pad(columns, (0, 1))))
        return tokens.permute(0, 2, 3, 1)


def _without_padding(columns: Tensor, frame_mask: Tensor | None) -> Tensor:
    """Zero the padded columns of (B, C, M, T)."""
    return columns if frame_mask is None else columns * frame_mask[:, None, None].to(columns.dtype)


class ConvStemEmbeddings(SpectrogramEmbeddings):
    """`SpectrogramEmbeddings` whose patches come from the stem: one row, and a column for every 4 frames begun."""

    def _build_patch_embedding(self, hidden_size: int) -> nn.Module:
        return ConvStemPatchEmbedding(hidden_size, self.num_mel_bins)

    @property
    def num_rows(self) -> int:
        """Rows of the patch grid: one."""
        return 1

    @property
    def min_frames(self) -> int:
        """Frames of the shortest clip: one."""
        return 1

    @property
    def max_frames(self) -> int:
        """Frames of the longest clip that has no more columns than the position table."""
        return self.positions.num_columns * FRAMES_PER_TOKEN

    def num_columns(self, num_frames: int) -> int:
        """Columns of a clip of that many frames."""
        return -(-num_frames // FRAMES_PER_TOKEN)

    def resize(self, *, num_mel_bins: int, stride: tuple[int, int], grid: tuple[int, int]) -> None:
        """Move to another length: the stem stays, the position table goes to `grid`."""
        if num_mel_bins != self.num_mel_bins or stride != self.stride:
            raise ValueError(
                f"num_mel_bins={num_mel_bins} and strides {stride} do not fit the stem of fPaSST, which has "
                f"{self.num_mel_bins} and {self.stride}; only max_length can change."
            )
        self.positions.resize(grid)

    def embed(self, input_values: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Patches without positions (B, 1, T', D), and which columns are real (B, T'), or None without a mask."""
        self.check(input_values, attention_mask)
        if attention_mask is not None:
            input_values, attention_mask = move_to_start(input_values, attention_mask)
            attention_mask = _up_to_last(attention_mask)
        patches = self._cropped(self.patch_embedding(input_values, attention_mask))
        return patches, None if attention_mask is None else self.column_mask(attention_mask)

    def column_mask(self, attention_mask: Tensor) -> Tensor:
        """Frame mask (B, T) -> which columns of the patch grid are real (B, T'); every clip has the first one."""
        columns = _up_to_last(attention_mask)[:, ::FRAMES_PER_TOKEN]
        if self.position_overflow == "crop":
            columns = columns[:, : self.positions.num_columns]
        return columns | (torch.arange(columns.shape[1], device=columns.device) == 0)


def _up_to_last(frame_mask: Tensor) -> Tensor:
    """True up to the last real frame of each clip (B, T)."""
    return frame_mask.bool().flip(1).cumsum(1).flip(1) > 0
