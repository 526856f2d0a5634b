"""Random crops of unlabelled recordings, as spectrograms for pretraining. Needs the extra `audio`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers.utils import logging

from hf_ast import HfASTFeatureExtractor, SSASTConfig, audio
from hf_ast.models.modules_embeddings import real_column_mask
from hf_ast.models.modules_masking import MaskSampler

from .statistics import mean_and_std

logger = logging.get_logger(__name__)

# Largest fraction of damaged recordings that is not an error
MAX_DAMAGED = 0.1


class Recording(NamedTuple):
    """An audio file and its length."""

    path: Path
    duration_s: float


def find_recordings(folder: Path) -> list[Recording]:
    """List all recordings with a readable header in a folder and its subfolders, sorted by path."""
    if not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is not a folder; give one that holds audio files.")
    recordings, unreadable = [], []
    for path in tqdm(sorted(p for p in folder.rglob("*") if p.is_file()), desc="Reading headers", unit="file"):
        try:
            recordings.append(Recording(path, audio.duration(path)))
        except ValueError:
            unreadable.append(path.name)
    if unreadable:
        logger.warning(f"{len(unreadable)} files are not audio that libsndfile can read, such as {unreadable[:3]}.")
    if not recordings:
        raise ValueError(f"folder={str(folder)!r} holds no recording that libsndfile can read.")
    return recordings


class ClipMasks:
    """Draws masks for clips as an SSAST with this config does.

    Args:
        config: Patch grid, number or ratio of masked patches, and sampler.
    """

    def __init__(self, config: SSASTConfig):
        self.config = config
        self.sampler = MaskSampler(
            config.num_mask_patches, config.mask_ratio, bool(config.mask_clusters), config.mask_sampler
        )

    def columns(self, frame_mask: Tensor) -> Tensor:
        """Return which columns of the patch grid are real (B, T') for a frame mask (B, T)."""
        columns = real_column_mask(frame_mask, self.config.patch_sides[1], self.config.strides[1])
        return columns[:, : self.config.grid[1]] if self.config.position_overflow == "crop" else columns

    def __call__(self, frame_mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the patches to mask (B, K), -1 for none, in clips with the frame mask (B, T)."""
        return self.sampler(self.columns(frame_mask), self.config.grid[0], generator)

    def count(self, mask_indices: Tensor, frame_mask: Tensor) -> Tensor:
        """Count the patches in `mask_indices` (B, K) that are real, as a tensor without dimensions."""
        columns = self.columns(frame_mask)
        return ((mask_indices >= 0) & columns.gather(1, mask_indices.clamp(min=0) % columns.shape[1])).sum()


class Crops(Dataset[dict[str, Tensor]]):
    """Spectrograms of random crops, as long as the feature extractor allows.

    The number of crops of a recording is its duration divided by that of a crop, at least one. A recording that turns
    out to be damaged is replaced by the next one, and listed in `damaged`.

    Args:
        recordings: Recordings to crop.
        feature_extractor: Computes the spectrograms; shorter recordings are padded.
        masks: Sampler of masks, for evaluation: each recording gives one crop from its middle, and always the same
            patches of it are masked.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        feature_extractor: HfASTFeatureExtractor,
        masks: ClipMasks | None = None,
    ):
        self.feature_extractor = feature_extractor
        self.masks = masks
        rate = feature_extractor.sampling_rate
        self.duration_s = feature_extractor.max_samples / rate
        shortest_s = feature_extractor.min_samples / rate
        self.recordings = [recording for recording in recordings if recording.duration_s > shortest_s]
        if not self.recordings:
            raise ValueError(
                f"recordings are all shorter than one frame of {1000 * shortest_s:.0f} ms; give longer ones."
            )
        self.crops = [
            number
            for number, recording in enumerate(self.recordings)
            for _ in range(1 if masks else max(1, round(recording.duration_s / self.duration_s)))
        ]
        # In shared memory, so that this process learns what the workers of a data loader find
        self.is_damaged = torch.zeros(len(self.recordings), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number = self.crops[index]
        for next_number in [*range(number, len(self.recordings)), *range(number)]:
            if not self.is_damaged[next_number]:
                try:
                    waveform = self._read(self.recordings[next_number])
                except (OSError, ValueError) as error:
                    self.is_damaged[next_number] = True
                    logger.warning(f"A recording is left out: {error}")
                else:
                    return self._item(waveform, index)
        self.expect_few_damaged()
        raise AssertionError("unreachable: all recordings are damaged")

    def _read(self, recording: Recording) -> np.ndarray:
        """Read a crop (S,) of a recording."""
        # The data loader seeds torch's generator anew for each worker and epoch
        place = 0.5 if self.masks else torch.rand(()).item()
        waveform, _ = audio.read(
            recording.path,
            self.feature_extractor.sampling_rate,
            start_s=place * max(0.0, recording.duration_s - self.duration_s),
            duration_s=self.duration_s,
        )
        if len(waveform) < self.feature_extractor.min_samples:
            raise ValueError(f"file={str(recording.path)!r} ends earlier than its header says.")
        return waveform

    def _item(self, waveform: np.ndarray, index: int) -> dict[str, Tensor]:
        features = self.feature_extractor(
            waveform,
            sampling_rate=self.feature_extractor.sampling_rate,
            return_tensors="pt",
            return_attention_mask=True,
        )
        item = {name: values[0] for name, values in features.items()}
        if self.masks:
            drawn = self.masks(item["attention_mask"][None], torch.Generator().manual_seed(index))[0]
            # Pad to one length, so that clips can be stacked
            num_patches = self.masks.config.grid[0] * self.masks.columns(item["attention_mask"][None]).shape[1]
            item["mask_indices"] = torch.nn.functional.pad(drawn, (0, num_patches - len(drawn)), value=-1)
        return item

    @property
    def damaged(self) -> list[Path]:
        """Recordings, among those used so far, that could not be read or hold values that are not finite."""
        return [self.recordings[number].path for number in self.is_damaged.nonzero().flatten().tolist()]

    def expect_few_damaged(self) -> None:
        """Raise a ValueError if more than a tenth of the recordings are damaged."""
        damaged = self.damaged
        if len(damaged) > MAX_DAMAGED * len(self.recordings):
            raise ValueError(
                f"{len(damaged)} of {len(self.recordings)} recordings are damaged, such as "
                f"{[str(path) for path in damaged[:3]]}; repair or remove them."
            )


def feature_statistics(
    recordings: Sequence[Recording], config: SSASTConfig, num_crops: int = 256
) -> tuple[float, float]:
    """Compute the mean and standard deviation of the log-mel values in random crops, without padding."""
    raw = HfASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length, do_normalize=False)
    crops = Crops(recordings, raw)
    chosen = torch.randperm(len(crops))[:num_crops].tolist()
    parts = []
    for index in tqdm(chosen, desc="Statistics", unit="crop"):
        item = crops[index]
        parts.append(item["input_values"][item["attention_mask"].bool()].flatten())
    crops.expect_few_damaged()
    return mean_and_std(parts)
