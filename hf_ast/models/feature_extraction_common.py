"""The part that the feature extractors of all families share: cutting, padding, masks and normalisation."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import logging

from hf_ast.remote_code import generated_code

from .feature_extraction_checks import (
    HIGHEST_RATE_HZ,
    MOST_MEL_BINS,
    MOST_VALUES,
    SMALLEST_STD,
    as_count,
    as_finite,
    as_waveforms,
    check_sampling_rate,
    expect_front_end,
    on_device,
)

logger = logging.get_logger(__name__)

Waveform = np.ndarray | Tensor | Sequence[float]


class SpectrogramFeatureExtractor(SequenceFeatureExtractor):
    """Waveforms in, normalised log-mel spectrograms out; a family adds its filter bank.

    Args:
        sampling_rate: Rate that the waveforms must have, in Hz.
        num_mel_bins: Mel bins, M.
        max_length: Frames that clips are padded or cut to.
        mean, std: Features become (x - mean) / (2 std).
        do_normalize: Whether to normalise.
        padding_value: Value of padded frames in the result; the family's `padding_level`, normalised, if None.
        return_attention_mask: Whether to return the frame mask even with `padding="max_length"`. The official models
            attend to padding.
        min_length: Frames of the model's shortest input, one patch, to which a shorter clip is padded.
            `load_classifier` and `load_encoder` set it to the patch of the model, which an older file may not name.

    Raises:
        ValueError: A setting is out of range. A setting that was changed later is checked at the next call.
    """

    model_input_names = ["input_values", "attention_mask"]
    # The padding that the family's models were trained with, and the value of padded frames before the normalisation
    default_padding: ClassVar[str] = "max_length"
    padding_level: ClassVar[float] = 0.0
    # Whether `padding="max_length"` adds silence to the waveform, instead of frames to the spectrogram
    completes_waveform: ClassVar[bool] = False
    # Other classes whose files it reads, because they compute the same
    equals: ClassVar[tuple[str, ...]] = ()
    # The torch-only front end of the family; the last instance is kept together with the settings it was built from
    front_end_class: ClassVar[type[nn.Module]]
    _front_end: tuple[dict[str, Any], nn.Module] | None = None
    _padding_value: float | None

    def __init__(
        self,
        sampling_rate: int,
        num_mel_bins: int,
        max_length: int,
        mean: float,
        std: float,
        do_normalize: bool,
        padding_value: float | None,
        return_attention_mask: bool,
        min_length: int,
        **kwargs: Any,
    ):
        kwargs["feature_size"] = num_mel_bins  # `pad` and the data collators need the width of one frame
        super().__init__(
            sampling_rate=sampling_rate,
            padding_value=0.0,
            return_attention_mask=return_attention_mask,
            **kwargs,
        )
        self.padding_value = padding_value
        self.num_mel_bins = num_mel_bins
        self.max_length = max_length
        self.min_length = min_length
        self.mean = mean
        self.std = std
        self.do_normalize = do_normalize

    @classmethod
    def get_feature_extractor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a preprocessor_config.json.

        Raises:
            ValueError: It was written for another feature extractor.
        """
        values, unused = super().get_feature_extractor_dict(pretrained_model_name_or_path, **kwargs)
        own = [base.__name__ for base in cls.__mro__ if base.__dict__.get("front_end_class") or base is cls]
        expect_front_end(values, (*own, *cls.equals), pretrained_model_name_or_path)
        return values, unused

    def _check_settings(self) -> None:
        """Raise an error if a setting is out of its range; numbers become Python's own, which can be saved as JSON."""
        self.sampling_rate = as_count("sampling_rate", self.sampling_rate, maximum=HIGHEST_RATE_HZ)
        # With a single mel bin, `pad` would take frames for samples
        self.num_mel_bins = as_count("num_mel_bins", self.num_mel_bins, 2, MOST_MEL_BINS)
        self.max_length = self._as_length("max_length", self.max_length)
        self.min_length = self._as_length("min_length", self.min_length)
        self.mean = as_finite("mean", self.mean)
        self.std = as_finite("std", self.std)
        if self.std < SMALLEST_STD:
            raise ValueError(
                f"std={self.std} must be positive, at least {SMALLEST_STD:g}; pass do_normalize=False to leave the "
                "features as they are."
            )
        if self._padding_value is not None:
            self._padding_value = as_finite("padding_value", self._padding_value)

    def _as_length(self, name: str, num_frames: Any) -> int:
        """Check a number of frames."""
        return as_count(name, num_frames, maximum=MOST_VALUES // self.num_mel_bins)

    def num_frames(self, num_samples: int) -> int:
        """Frames of a clip of that many samples, at least one."""
        raise NotImplementedError

    def num_samples(self, num_frames: int) -> int:
        """Samples of a clip that has that many frames and ends with a whole one."""
        raise NotImplementedError

    def _samples_of(self, num_frames: int) -> int:
        """Samples on which the first frames of a clip depend, where they are cut off from the rest."""
        return self.num_samples(num_frames)

    @property
    def frame_shift(self) -> int:
        """Samples between two frames."""
        return self.num_samples(2) - self.num_samples(1)

    @property
    def first_frame_s(self) -> float:
        """Centre of the first frame of a clip, in seconds."""
        raise NotImplementedError

    @property
    def mel_centres_hz(self) -> Tensor:
        """Centre frequency of each mel bin in Hz, float64, shape (M,)."""
        front_end: Any = self._front_end_on(torch.device("cpu"))
        return front_end.filter_bank.centres_hz

    @property
    def num_edge_frames(self) -> int:
        """Frames at each end of a clip that depend on where the clip ends."""
        return 0

    @property
    def max_samples(self) -> int:
        """Samples that fill `max_length` frames: the longest clip that is not cut."""
        return self.num_samples(self.max_length)

    @property
    def min_samples(self) -> int:
        """Samples that the filter bank needs at least; a shorter clip gets zeros behind it."""
        return self.num_samples(1)

    def _front_end_settings(self) -> dict[str, Any]:
        """Return the arguments of `front_end_class`."""
        raise NotImplementedError

    def _front_end_on(self, device: torch.device) -> nn.Module:
        """Return the module that turns waveforms (B, S) into log-mel spectrograms (B, T, M), not normalised."""
        settings = self._front_end_settings() | {"device": device}
        if self._front_end is None or self._front_end[0] != settings:
            self._front_end = (settings, self.front_end_class(**settings))
        return self._front_end[1]

    def _prepared(self, clip: Tensor) -> Tensor:
        """Prepare waveforms (..., S) as the family requires before they are cut."""
        return clip

    @property
    def padding_value(self) -> float:
        """Value of padded frames, after normalisation."""
        if self._padding_value is not None:
            return self._padding_value
        return (self.padding_level - self.mean) / (2 * self.std) if self.do_normalize else self.padding_level

    @padding_value.setter
    def padding_value(self, value: float | None) -> None:
        self._padding_value = value

    def to_dict(self) -> dict[str, Any]:
        """Return everything that `from_pretrained` needs."""
        values = super().to_dict()
        values.pop("_front_end", None)
        values["padding_value"] = values.pop("_padding_value", None)
        return values

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Save preprocessor_config.json, and the code of the feature extractor."""
        with generated_code(type(self)):
            return super().save_pretrained(save_directory, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_front_end"}

    def __call__(
        self,
        raw_speech: Waveform | Sequence[Waveform],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        *,
        padding: bool | str | None = None,
        truncation: bool = True,
        max_length: int | None = None,
        return_attention_mask: bool | None = None,
        device: str | torch.device | None = None,
    ) -> BatchFeature:
        """Turn one mono waveform or a batch of them into spectrograms.

        A clip of any length has at least one frame. One that is too short for the filter bank (`min_samples`) is
        continued with zeros; one that is shorter than the model's shortest input (`min_length`) is padded to it, with
        either kind of padding. The frame mask marks what is padding, alone as in a batch.

        Args:
            raw_speech: Float samples in [-1, 1]: shape (S,), (B, S), or a list of clips of any lengths; arrays,
                tensors or lists.
            sampling_rate: Of the waveforms, in Hz; checked against the extractor's.
            return_tensors: "pt" or "np" for one array, None for a list of arrays.
            padding: "max_length"; "longest" or True for the longest clip of the batch; False for none. The default is
                "max_length" for AST and SSAST, and "longest" for PaSST, as their models were trained. Without
                `return_tensors`, a default that would return a mask becomes False: scripts tend to lose the mask, and
                `pad` and the data collators create it when they pad later.
            truncation: Whether to cut clips at the end to `max_length` frames (with a warning); an error if False and
                `padding="max_length"`.
            max_length: Frames; the extractor's own if None.
            return_attention_mask: Whether to return the frame mask; by default with "longest".
            device: Where to compute; results of "pt" stay there. By default where the given tensors are.

        Returns:
            `input_values` (B, T, M), and `attention_mask` (B, T), 1 for real frames, if asked for.

        Raises:
            ValueError: Wrong sampling rate, integer samples, more than one channel, an empty clip, values that are not
                finite, or an argument or a setting of the extractor out of its range.
        """
        self._check_settings()
        self._check_sampling_rate(sampling_rate)
        if return_tensors not in (None, "pt", "np"):
            raise ValueError(f"return_tensors={return_tensors!r} is unknown; choose 'pt', 'np' or None.")
        clips = as_waveforms(raw_speech)
        if device is not None:
            clips = on_device(clips, device)
        wants_mask = self.return_attention_mask if return_attention_mask is None else return_attention_mask
        if padding is None:
            comes_with_mask = wants_mask or self.default_padding == "longest"
            padding = False if return_tensors is None and comes_with_mask else self.default_padding
        elif padding not in (True, "longest", "max_length", False, "do_not_pad"):
            raise ValueError(f"padding={padding!r} is unknown; choose 'max_length', 'longest' or False.")
        longest = padding in (True, "longest")
        padded = longest or padding == "max_length"
        max_length = self.max_length if max_length is None else self._as_length("max_length", max_length)
        lengths = self._cut([self.num_frames(len(clip)) for clip in clips], max_length, padding, truncation)
        shape = (len(clips), max(*lengths, min(self.min_length, max_length)) if longest else max_length)
        shown = lengths
        if padding == "max_length" and self.completes_waveform:
            num_samples, shown = self.num_samples(max_length), [max_length] * len(clips)
            clips = [nn.functional.pad(clip, (0, max(0, num_samples - len(clip)))) for clip in clips]
        features = self._features(clips, shown)
        data: dict[str, Any] = {"input_values": features}
        if padded:
            data["input_values"] = _padded(features, (*shape, self.num_mel_bins), self.padding_value)
        if wants_mask or (longest and return_attention_mask is None):
            masks = [torch.ones(length, dtype=torch.long, device=clips[0].device) for length in lengths]
            data["attention_mask"] = _padded(masks, shape, 0) if padded else masks
        return _to_batch(data, return_tensors)

    def pad(
        self,
        processed_features: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Pad spectrograms of different lengths to one length; the data collators of transformers call this.

        Args:
            processed_features: Results of a call, one dict per clip or one of lists, with `input_values` (T, M),
                perhaps `attention_mask` (T,), and whatever else is to be batched.
            padding, max_length, truncation, pad_to_multiple_of, return_tensors: As in `SequenceFeatureExtractor.pad`;
                "longest" or True pads to `min_length` at least.
            return_attention_mask: Whether to return the frame mask. By default there is one if the extractor's own
                setting asks for it, if masks come in, and wherever frames are added: without a mask the models would
                attend to them.

        Returns:
            `input_values` (B, T, M), `attention_mask` (B, T), 1 for real frames, and the rest.

        Raises:
            ValueError: Some clips come with a mask and others do not; or as in `SequenceFeatureExtractor.pad`.
        """
        items = [processed_features] if isinstance(processed_features, Mapping) else list(processed_features)
        clips = (
            items[0]["input_values"]
            if isinstance(processed_features, Mapping)
            else [item["input_values"] for item in items]
        )
        if padding in (True, "longest") and all(len(clip) < self.min_length for clip in clips):
            padding, max_length = "max_length", self.min_length
        with_mask = sum("attention_mask" in item for item in items)
        if 0 < with_mask < len(items):
            raise ValueError(
                f"attention_mask comes with {with_mask} of {len(items)} clips; pass it with all of them or with none."
            )
        if return_attention_mask is False:
            items = [{key: value for key, value in item.items() if key != "attention_mask"} for item in items]
        features: Any = dict(items[0]) if isinstance(processed_features, Mapping) else items
        batch = super().pad(
            features,
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask is not False,
            return_tensors=return_tensors,
        )
        asked_for = return_attention_mask or self.return_attention_mask or with_mask
        if not asked_for and all(mask.all() for mask in batch.get("attention_mask", [])):
            batch.pop("attention_mask", None)
        return batch

    def _cut(self, lengths: list[int], max_length: int, padding: bool | str, truncation: bool) -> list[int]:
        """Cut numbers of frames to `max_length`, or raise an error if that is needed but not allowed."""
        longest = max(lengths)
        if not truncation:
            if padding == "max_length" and longest > max_length:
                raise ValueError(
                    f"A clip has {longest} frames, but max_length={max_length}; use truncation=True, "
                    "padding='longest' or a larger max_length."
                )
            return lengths
        if longest > max_length:
            seconds = self.num_samples(max_length) / self.sampling_rate
            logger.warning_once(
                f"Audio beyond {max_length} frames ({seconds:.4g} s) is cut off, as in the official code. Pass "
                "shorter windows, a larger max_length, or truncation=False with padding='longest'."
            )
        return [min(length, max_length) for length in lengths]

    def _features(self, clips: list[Tensor], lengths: list[int]) -> Iterator[Tensor]:
        """Yield the spectrograms (T, M) of clips, cut to `lengths` frames; on a CPU one by one, to use its cache."""
        log_mel = self._front_end_on(clips[0].device)
        prepared = (self._filtered(clip, length) for clip, length in zip(clips, lengths, strict=True))
        if clips[0].device.type == "cpu" or len({len(clip) for clip in clips}) > 1:
            features: Iterable[Tensor] = (log_mel(clip[None])[0] for clip in prepared)
        else:
            features = log_mel(torch.stack(list(prepared)))
        for feature, length in zip(features, lengths, strict=True):
            frames = feature[:length]  # the zeros behind a short clip may have given more
            yield frames.sub_(self.mean).div_(self.std * 2) if self.do_normalize else frames

    def _filtered(self, clip: Tensor, num_frames: int) -> Tensor:
        """Return what the filter bank gets of a clip (S,) for that many frames: at least `min_samples` samples."""
        is_cut = num_frames < self.num_frames(len(clip))
        clip = nn.functional.pad(clip, (0, max(0, self.min_samples - len(clip))))
        clip = self._prepared(clip)
        return clip[: max(self._samples_of(num_frames), self.min_samples)] if is_cut else clip

    def _check_sampling_rate(self, sampling_rate: int | None) -> None:
        if sampling_rate is None:
            logger.warning_once(
                f"Pass sampling_rate to {type(self).__name__}: waveforms are assumed to have {self.sampling_rate} Hz, "
                "and others give wrong results without an error."
            )
        else:
            check_sampling_rate(sampling_rate, self.sampling_rate)


def _padded(items: Iterable[Tensor], shape: tuple[int, ...], value: float) -> Tensor:
    """Fill a tensor (B, T, ...) with items of different lengths, and with `value` after the shorter ones."""
    items = iter(items)
    first = next(items)
    batch = first.new_empty(shape)
    for row, item in zip(batch, chain((first,), items), strict=True):
        row[: len(item)] = item
        row[len(item) :] = value
    return batch


def _to_batch(data: dict[str, Any], return_tensors: str | None) -> BatchFeature:
    """Tensors, or iterables of them, -> what `return_tensors` asks for; without one, lists of arrays."""
    if all(isinstance(value, Tensor) for value in data.values()):
        if return_tensors == "pt":
            return BatchFeature(data)
        arrays = {name: value.cpu().numpy() for name, value in data.items()}
        return BatchFeature(
            arrays if return_tensors == "np" else {name: list(value) for name, value in arrays.items()}
        )
    unpadded = {name: list(value) for name, value in data.items()}
    if return_tensors == "pt" and all(len({item.shape for item in items}) == 1 for items in unpadded.values()):
        return BatchFeature({name: torch.stack(items) for name, items in unpadded.items()})  # where they are
    lists = {name: [item.cpu().numpy() for item in items] for name, items in unpadded.items()}
    return BatchFeature(lists, tensor_type=return_tensors)
