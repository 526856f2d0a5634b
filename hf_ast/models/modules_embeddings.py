"""From a log-mel spectrogram to the tokens of the encoder."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from .modules_checks import expect_tensor
from .modules_patchout import Patchout
from .modules_positions import PositionTable, grid_shape

# Ways from a spectrogram to patches: one projection for each, or fPaSST's convolutions before it
PATCH_EMBEDDINGS = ("linear", "conv_stem")
# Below the largest float16, 65504, with room for positions and for what the layers add
FLOAT16_LIMIT = 6e4


def order_from_start(frame_mask: Tensor) -> Tensor:
    """Order of the frames of each clip in which the padding before the clip comes last, shape (B, T)."""
    first = frame_mask.bool().int().argmax(dim=1, keepdim=True)
    num_frames = frame_mask.shape[1]
    return (torch.arange(num_frames, device=frame_mask.device) + first) % num_frames


def move_to_start(input_values: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the padding before each clip to its end, so that the patches begin where the clip begins.

    Left padding would otherwise shift the patch grid relative to the clip, even by fractions of a patch.

    Args:
        input_values: Spectrograms, shape (B, T, M).
        frame_mask: 1 for real frames, 0 for padding, shape (B, T).

    Returns:
        Both, in the same shapes; equal to the arguments where no clip begins with padding.
    """
    source = order_from_start(frame_mask)
    moved = input_values.gather(1, source.unsqueeze(-1).expand(-1, -1, input_values.shape[2]))
    return moved, frame_mask.gather(1, source)


def real_column_mask(
    frame_mask: Tensor, patch_frames: int, time_stride: int, max_columns: int | None = None
) -> Tensor:
    """Find the columns of the patch grid that lie wholly in real frames.

    A padded clip then has exactly the patches that it would have alone. A clip without a whole patch keeps its first
    column, so that no clip is without tokens.

    Args:
        frame_mask: 1 for real frames, 0 for padding, shape (B, T).
        patch_frames: Frames per patch.
        time_stride: Frames between patches.
        max_columns: Number of columns to keep, from the first one on; all if None.

    Returns:
        Boolean mask, shape (B, T').
    """
    num_columns = (frame_mask.shape[1] - patch_frames) // time_stride + 1
    columns = torch.arange(num_columns, device=frame_mask.device)[:max_columns]
    # Differences of cumulative counts, because `unfold` and pooling recompile for some lengths and cannot be exported
    num_padded = nn.functional.pad((~frame_mask.bool()).cumsum(dim=1), (1, 0))
    starts = columns * time_stride
    is_real = num_padded.index_select(1, starts + patch_frames) == num_padded.index_select(1, starts)
    return is_real | ((columns == 0) & ~is_real.any(dim=1, keepdim=True))


class Embedded(NamedTuple):
    """Output of `SpectrogramEmbeddings`.

    Attributes:
        tokens: Shape (B, N, D).
        mask: Which tokens are real, shape (B, N); None without a frame mask.
        kept: Row-major numbers of the patches that patchout left, shape (1 or B, N - P); None if all are there.
    """

    tokens: Tensor
    mask: Tensor | None
    kept: Tensor | None


def in_range(values: Tensor) -> Tensor:
    """Keep what spectrograms far out of range give in half precision finite: norms would turn infinity into NaN."""
    return values.clamp(-FLOAT16_LIMIT, FLOAT16_LIMIT) if values.dtype == torch.float16 else values


class PatchEmbedding(nn.Module):
    """Linear projection of overlapping patches, as a convolution."""

    def __init__(self, hidden_size: int, patch_size: tuple[int, int], stride: tuple[int, int]):
        super().__init__()
        self.projection = nn.Conv2d(1, hidden_size, kernel_size=patch_size, stride=stride)

    def forward(self, input_values: Tensor) -> Tensor:
        """Spectrogram (B, T, M), of any float dtype -> patches (B, F', T', D) in the dtype of the weights."""
        spectrogram = input_values.to(self.projection.weight.dtype).transpose(1, 2).unsqueeze(1)
        return in_range(self.projection(spectrogram)).permute(0, 2, 3, 1)


class SpectrogramEmbeddings(nn.Module):
    """Patch embedding, prefix tokens, positions and, in training mode, patchout.

    Args:
        hidden_size: D.
        positions: Position table over the patch grid (`modules_positions`).
        num_mel_bins: M.
        patch_size: Patch height and width (mel bins, frames).
        frequency_stride, time_stride: Distance between patches, in mel bins and frames.
        use_distillation_token: Add a second prefix token after the cls token.
        position_crop: Columns of the table that a shorter clip uses: "start", "center", or "random" (in training mode
            a random run of columns, the same for the whole batch; in eval mode the first ones).
        position_overflow: What happens to a longer clip: "error", "interpolate" the table, or "crop" the clip.
        dropout: Dropout probability, applied after the positions are added.
        patchout: Which patches to drop in training mode; none by default.
    """

    def __init__(
        self,
        hidden_size: int,
        positions: PositionTable,
        *,
        num_mel_bins: int = 128,
        patch_size: tuple[int, int] = (16, 16),
        frequency_stride: int = 10,
        time_stride: int = 10,
        use_distillation_token: bool = True,
        position_crop: str = "start",
        position_overflow: str = "error",
        dropout: float = 0.0,
        patchout: Patchout | None = None,
    ):
        super().__init__()
        self.num_mel_bins = num_mel_bins
        self.patch_size = patch_size
        self.stride = (frequency_stride, time_stride)
        self.position_crop = position_crop
        self.position_overflow = position_overflow
        self.num_prefix_tokens = 2 if use_distillation_token else 1

        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, hidden_size)) if use_distillation_token else None
        self.patch_embedding = self._build_patch_embedding(hidden_size)
        self.prefix_positions = nn.Parameter(torch.zeros(1, self.num_prefix_tokens, hidden_size))
        self.positions = positions
        self.dropout = nn.Dropout(dropout)
        self.patchout = Patchout() if patchout is None else patchout

    def _build_patch_embedding(self, hidden_size: int) -> nn.Module:
        return PatchEmbedding(hidden_size, self.patch_size, self.stride)

    def initialize(self, std: float) -> None:
        """Initialise the prefix tokens and their positions."""
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=std)

    @property
    def num_rows(self) -> int:
        """Rows of the patch grid, F'."""
        return grid_shape(self.num_mel_bins, self.patch_size[1], self.patch_size, self.stride)[0]

    @property
    def min_frames(self) -> int:
        """Frames of the shortest clip: one patch."""
        return self.patch_size[1]

    @property
    def max_frames(self) -> int:
        """Frames of the longest clip that has no more columns than the position table."""
        return self.positions.num_columns * self.stride[1] + self.patch_size[1] - 1

    def num_columns(self, num_frames: int) -> int:
        """Columns of the patch grid of a clip of that many frames, T'."""
        return grid_shape(self.num_mel_bins, num_frames, self.patch_size, self.stride)[1]

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        masked_patches: Tensor | None = None,
        mask_embedding: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Embedded:
        """Embed a batch of spectrograms.

        Args:
            input_values: Normalised log-mel spectrograms, shape (B, T, M).
            attention_mask: 1 for real frames, 0 for padding, shape (B, T). A clip that begins with padding is moved to
                the start of the patch grid.
            masked_patches: True for patches to replace by `mask_embedding`, shape (B, F', T'); positions stay.
            mask_embedding: Shape (1, 1, D).
            generator: Source of the random draws in training mode; the global one if None.

        Raises:
            ValueError: The input has a wrong shape, is shorter than one patch or longer than the position table
                allows, or has no patch left after patchout.
        """
        patches, column_mask = self.embed(input_values, attention_mask)
        if masked_patches is not None and mask_embedding is not None:
            patches = torch.where(masked_patches.unsqueeze(-1), mask_embedding.to(patches.dtype), patches)
        tokens, token_mask = self.assemble(patches, column_mask, generator=generator)
        _, num_rows, num_columns, _ = patches.shape
        return Embedded(*self.patchout(tokens, token_mask, (num_rows, num_columns), generator))

    def embed(self, input_values: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Patches without positions (B, F', T', D), and which columns are real (B, T'), or None without a mask."""
        self.check(input_values, attention_mask)
        if attention_mask is not None:
            input_values, attention_mask = move_to_start(input_values, attention_mask)
        patches = self._cropped(self.patch_embedding(input_values))
        return patches, None if attention_mask is None else self.column_mask(attention_mask)

    def _cropped(self, patches: Tensor) -> Tensor:
        """Patches (B, F', T', D), without the columns beyond the position table if the clip is to be cut."""
        return patches[:, :, : self.positions.num_columns] if self.position_overflow == "crop" else patches

    def column_mask(self, attention_mask: Tensor) -> Tensor:
        """Frame mask (B, T) -> which columns of the patch grid are real (B, T')."""
        max_columns = self.positions.num_columns if self.position_overflow == "crop" else None
        return real_column_mask(attention_mask, self.patch_size[1], self.stride[1], max_columns)

    def assemble(
        self, patches: Tensor, column_mask: Tensor | None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Add positions and prefix tokens to what `embed` returned; the result is `forward`'s before patchout."""
        batch_size, num_rows, num_columns, _ = patches.shape
        patches = patches + self._positions(num_columns, column_mask, generator)
        prefix_tokens: list[Tensor] = [
            token for token in (self.cls_token, self.distillation_token) if token is not None
        ]
        prefix = (torch.cat(prefix_tokens, dim=1) + self.prefix_positions).expand(batch_size, -1, -1)
        # Row by row, because torch.export refuses to flatten a grid with a dynamic number of columns
        tokens = self.dropout(torch.cat((prefix, *patches.unbind(1)), dim=1))
        if column_mask is None:
            return tokens, None
        prefix_mask = column_mask.new_ones(batch_size, self.num_prefix_tokens)
        return tokens, torch.cat((prefix_mask, *[column_mask] * num_rows), dim=1)

    def _positions(self, num_columns: int, column_mask: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Positions (1 or B, F', T', D) of the patches."""
        num_spare = self.positions.num_columns - num_columns
        if self.position_crop == "random" and self.training and num_spare > 0:
            positions = self.positions(self.positions.num_columns)
            columns = self.random_start(num_spare + 1, generator).to(positions.device)
            return positions.index_select(2, columns + torch.arange(num_columns, device=positions.device))
        crop = "center" if self.position_crop == "center" else "start"
        return self.positions(num_columns, crop=crop, column_mask=column_mask)

    @staticmethod
    def random_start(num_starts: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw a number below `num_starts`, shape (1,), on the device of the generator, by default the CPU."""
        # Not `randint`, which would recompile for every number of starts; and no `generator=None`, which cannot be
        # traced
        draw = torch.rand(1) if generator is None else torch.rand(1, generator=generator, device=generator.device)
        return (draw * num_starts).long()

    def resize(self, *, num_mel_bins: int, stride: tuple[int, int], grid: tuple[int, int]) -> None:
        """Move to another input geometry: the patch projection stays, the position table goes to `grid`."""
        self.num_mel_bins = num_mel_bins
        self.stride = stride
        cast("PatchEmbedding", self.patch_embedding).projection.stride = stride
        self.positions.resize(grid)

    def check(self, input_values: Tensor, attention_mask: Tensor | None) -> None:
        """Raise the errors of `forward`."""
        expect_tensor("input_values", input_values)
        if input_values.ndim != 3 or input_values.shape[2] != self.num_mel_bins:
            raise ValueError(
                f"input_values must have shape (B, frames, {self.num_mel_bins} mel bins), got "
                f"{tuple(input_values.shape)}; use the model's own feature extractor, or load the model with "
                "`num_mel_bins=`."
            )
        if not input_values.is_floating_point():
            raise ValueError(
                f"input_values holds {input_values.dtype}, but must be a float spectrogram, as the model's own "
                "feature extractor makes it."
            )
        batch_size, num_frames, _ = input_values.shape
        if batch_size == 0:
            raise ValueError("input_values is an empty batch; pass at least one clip.")
        if num_frames < self.min_frames:
            raise ValueError(
                f"input_values has {num_frames} frames, less than one patch of {self.min_frames}; pad it to that "
                "length."
            )
        if attention_mask is not None:
            expect_tensor("attention_mask", attention_mask)
            if attention_mask.shape != (batch_size, num_frames):
                raise ValueError(
                    f"attention_mask must have one value per frame, shape {(batch_size, num_frames)}, got "
                    f"{tuple(attention_mask.shape)}."
                )
        if self.num_columns(num_frames) > self.positions.num_columns and self.position_overflow == "error":
            raise ValueError(
                f"input_values has {num_frames} frames, but the position table covers at most {self.max_frames}. Cut "
                f"the input into windows, load the model with `max_length={num_frames}` (resizes the table), or set "
                '`position_overflow="interpolate"` or `"crop"` in the config.'
            )
