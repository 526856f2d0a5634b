"""Config of the frame-wise Patchout faSt Spectrogram Transformer."""

from huggingface_hub.dataclasses import strict

from .configuration_common import SpectrogramConfig
from .modules_conv_stem import FRAMES_PER_TOKEN


@strict
class FPaSSTConfig(SpectrogramConfig):
    """fPaSST (Schmid et al. 2025, https://arxiv.org/abs/2409.09546); see `SpectrogramConfig` for the fields.

    The defaults are those of the released models: 10 s at a hop length of 160 samples, 250 cells of 40 ms. A shorter
    clip is stretched to 250 cells, too, as in the official code; with `num_cells=None` it has a cell for every 40 ms.
    Patchout in training needs `num_cells=None`.
    """

    model_type = "fpasst"
    _auto_class = "AutoConfig"

    patch_size: int | list[int] | tuple[int, ...] = (128, FRAMES_PER_TOKEN)
    frequency_stride: int = 128
    time_stride: int = FRAMES_PER_TOKEN
    max_length: int = 1000
    position_table: str = "factorised"
    patch_embedding: str = "conv_stem"
    pooling: str = "cells"
    num_cells: int | None = 250
    use_head_norm: bool = False

    @property
    def min_frames(self) -> int:
        """Frames of the shortest clip: one."""
        return 1

    def first_centre_s(self, first_frame_s: float) -> float:
        """Centre of the first cell in seconds: cells begin with the clip, as in the official code."""
        return self.cell_s / 2

    def num_cells_of(self, num_frames: int) -> int:
        """Cells of a clip of that many frames, K."""
        if self.num_cells is not None:
            return self.num_cells
        columns = -(-num_frames // FRAMES_PER_TOKEN)
        return min(columns, self.position_grid[1]) if self.position_overflow == "crop" else columns

    def validate_stem(self) -> None:
        """Check that the patches are those of the stem: one row, a column for every 4 frames."""
        expected = {
            "patch_size": [self.num_mel_bins, FRAMES_PER_TOKEN],
            "frequency_stride": self.num_mel_bins,
            "time_stride": FRAMES_PER_TOKEN,
        }
        for name, value in expected.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name}={getattr(self, name)} must be {value}, as the stem of fPaSST has it.")
        if self.num_mel_bins % 4 or self.max_length % FRAMES_PER_TOKEN:
            raise ValueError(
                f"num_mel_bins={self.num_mel_bins} and max_length={self.max_length} must be multiples of 4, by which "
                "the stem divides them."
            )


__all__ = ["FPaSSTConfig"]
