"""Random crops of unlabelled recordings, as spectrograms for pretraining. Needs the extra `audio`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import default_data_collator

from hf_ast import HfASTFeatureExtractor, SSASTConfig
from hf_ast.data.labelled import Clip
from hf_ast.data.readers import Reader
from hf_ast.data.splitting import TRAIN, VALIDATION
from hf_ast.models.modules_embeddings import real_column_mask
from hf_ast.models.modules_masking import MaskSampler

from .clips import num_parts, read_part
from .damage import ToleratingDataset, outlive_signals
from .mixtures import Mixture
from .sampling import seeded_generator
from .statistics import feature_statistics


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

    def draw(self, frame_mask: Tensor, *seed: int) -> Tensor:
        """Draw the patches to mask in one clip.

        Args:
            frame_mask: Which of its frames are real, shape (T,).
            seed: Integers that determine the choice, on any device.

        Returns:
            Patch numbers, padded with -1 to as many as the grid has, so that clips can be stacked, shape (F' * T').
        """
        frame_mask = frame_mask[None].cpu()
        drawn = self(frame_mask, seeded_generator(*seed))[0]
        num_patches = self.config.grid[0] * self.columns(frame_mask).shape[1]
        return torch.nn.functional.pad(drawn, (0, num_patches - len(drawn)), value=-1)

    def count(self, mask_indices: Tensor, frame_mask: Tensor) -> Tensor:
        """Count the patches in `mask_indices` (B, K) that are real, as a tensor without dimensions."""
        columns = self.columns(frame_mask)
        return ((mask_indices >= 0) & columns.gather(1, mask_indices.clamp(min=0) % columns.shape[1])).sum()


class Crops(ToleratingDataset):
    """Spectrograms of crops, as long as the feature extractor allows, with the patches to mask in them.

    Crops for training are random. Without weights of the sources, the number of crops of a recording is its duration
    divided by that of a crop, at least one, and each is in every epoch once. With weights, an epoch has as many crops
    in all, and each source provides exactly its share, to within one crop: some of its crops, drawn anew in each
    epoch, or all of them several times. The positions of crops and their masks depend only on the seed, the epoch and
    the number of the row, so that they are the same in any process and after training is resumed. Pass the crops to
    `Trainer` twice, as dataset and as callback, which tells them the epoch.

    For evaluation, each recording gives one crop from its middle, in which the same patches are always masked.

    A recording that turns out to be damaged is replaced by the next one of its source, and listed in `damaged`.

    Args:
        mixture: The recordings.
        feature_extractor: Computes the spectrograms; shorter recordings are padded.
        masks: Sampler of masks; None for none.
        evaluation: Whether to take the recordings for evaluation instead of those for training.
        seed: Seed of crops and masks.
    """

    def __init__(
        self,
        mixture: Mixture,
        feature_extractor: HfASTFeatureExtractor,
        masks: ClipMasks | None = None,
        *,
        evaluation: bool = False,
        seed: int = 0,
    ):
        split = VALIDATION if evaluation else TRAIN
        of_parts = [part.of(split) for part in mixture.parts]
        super().__init__([clip for clips in of_parts for clip in clips])
        self.mixture = mixture
        self.feature_extractor = feature_extractor
        self.masks = masks
        self.evaluation = evaluation
        self.seed = seed
        self.duration_s = feature_extractor.max_samples / feature_extractor.sampling_rate
        # The recordings of each source are numbered from its start up to that of the next one
        self.starts = np.cumsum([0, *map(len, of_parts)])
        self.crops = [
            np.repeat(np.arange(start, start + len(clips)), [self._num_crops(clip) for clip in clips])
            for start, clips in zip(self.starts, of_parts, strict=False)
        ]
        self.num_crops = [len(crops) for crops in self.crops]
        if mixture.weights is not None and not evaluation:
            self.num_crops = apportioned(sum(self.num_crops), mixture.weights)
            if 0 in self.num_crops:
                source = mixture.parts[self.num_crops.index(0)].source.location
                raise ValueError(
                    f"weights={mixture.weights} give {source!r} none of the {len(self)} crops of an epoch; give it a "
                    "larger weight, or leave it out."
                )
        self._numbers: tuple[int, np.ndarray] | None = None
        self._readers: list[Reader] | None = None

    def __len__(self) -> int:
        return sum(self.num_crops)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        features = self.feature_extractor(
            self.waveform(index),
            sampling_rate=self.feature_extractor.sampling_rate,
            return_tensors="pt",
            return_attention_mask=True,
        )
        item = {name: values[0] for name, values in features.items()}
        if self.masks:
            item["mask_indices"] = self.masks.draw(item["attention_mask"], self.seed, self._draw, index, 1)
        return item

    def waveform(self, index: int) -> np.ndarray:
        """Read a crop (S,)."""
        number = self.numbers()[index]
        place = 0.5 if self.evaluation else np.random.default_rng((self.seed, self._draw, index)).random()
        part = int(np.searchsorted(self.starts, number, side="right")) - 1
        first, end = self.starts[part : part + 2]
        for next_number in self.candidates(int(number), int(first), int(end)):
            try:
                return self._read(part, self.recordings[next_number], place)
            except (OSError, ValueError) as error:
                self.mark_damaged(next_number, error)
        self.expect_few_damaged()
        raise ValueError(
            f"All {end - first} recordings of {self.mixture.parts[part].source.location!r} are damaged; repair them, "
            "or leave out this source."
        )

    def numbers(self) -> np.ndarray:
        """Return which recording each crop of this epoch is from, as a number, shape (number of crops,)."""
        epoch = self._draw
        if self._numbers is None or self._numbers[0] != epoch:
            self._numbers = epoch, np.concatenate([self._drawn(part, epoch) for part in range(len(self.crops))])
        return self._numbers[1]

    @property
    def _draw(self) -> int:
        """Return the number by which draws differ: the epoch, or always 0 in evaluation."""
        return 0 if self.evaluation else int(self._epoch)

    def _num_crops(self, clip: Clip) -> int:
        return 1 if self.evaluation else num_parts(clip, self.duration_s)

    def _drawn(self, part: int, epoch: int) -> np.ndarray:
        """Return the numbers of the recordings from which the crops of a source in an epoch are taken."""
        crops, number = self.crops[part], self.num_crops[part]
        if number == len(crops):
            return crops
        chosen = np.random.default_rng((self.seed, epoch, part)).permutation(len(crops))[: number % len(crops)]
        return np.concatenate([np.tile(crops, number // len(crops)), crops[chosen]])

    def _read(self, part: int, clip: Clip, place: float) -> np.ndarray:
        if self._readers is None:  # those of one process
            outlive_signals()
            self._readers = [part.source.reader() for part in self.mixture.parts]
        rate = self.feature_extractor.sampling_rate
        return read_part(self._readers[part], clip, place, sampling_rate=rate, duration_s=self.duration_s)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_readers": None}


def apportioned(number: int, shares: Sequence[float]) -> list[int]:
    """Divide an integer into parts that differ from their exact shares (which sum to 1) by less than one."""
    exact = number * np.asarray(shares)
    parts = np.floor(exact).astype(int)
    largest_rests = np.argsort(parts - exact, kind="stable")[: number - parts.sum()]
    parts[largest_rests] += 1
    return [int(part) for part in parts]


def collate_crops(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack crops; masks are cut to the length of the longest one."""
    batch: dict[str, Tensor] = default_data_collator(list(items))
    if "mask_indices" in batch:
        batch["mask_indices"] = batch["mask_indices"][:, : int((batch["mask_indices"] >= 0).sum(dim=1).max())]
    return batch


def crop_statistics(
    mixture: Mixture, config: SSASTConfig, *, num_crops: int = 256, seed: int = 0, progress: bool = False
) -> tuple[float, float]:
    """Compute the mean and standard deviation of the log-mel values in random crops, without padding."""
    extractor = HfASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    crops = Crops(mixture, extractor, seed=seed)
    chosen = np.random.default_rng(seed).permutation(len(crops))[:num_crops].tolist()
    bar = tqdm(chosen, desc="Statistics", unit="crop", disable=not progress)
    result = feature_statistics(extractor, (crops.waveform(index) for index in bar))
    crops.expect_few_damaged()
    return result
