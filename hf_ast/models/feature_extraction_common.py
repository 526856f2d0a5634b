"""What the feature extractors of all families share: checks of waveforms, cutting, padding, masks, normalisation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import logging

logger = logging.get_logger(__name__)

Waveform = np.ndarray | Tensor | Sequence[float]
# Far above any float waveform in [-1, 1], resampling overshoot included, and far below 16-bit sample values
LOUDEST_PEAK = 100.0


class SpectrogramFeatureExtractor(SequenceFeatureExtractor):
    """Waveforms in, normalised log-mel spectrograms out; a family adds its filter bank.

    Args:
        sampling_rate: In Hz; the waveforms must have it.
        num_mel_bins: Mel bins, M.
        max_length: Frames that clips are padded or cut to.
        mean, std: Features become (x - mean) / (2 std).
        do_normalize: Whether to normalise.
        padding_value: Value of padded frames in the result; the family's `padding_level`, normalised, if None.
        return_attention_mask: Whether to return the frame mask also with `padding="max_length"`. The official models
            attend to padding.
    """

    model_input_names = ["input_values", "attention_mask"]
    # `padding` of a call that does not say it, and the value of padded frames before the normalisation
    default_padding: ClassVar[str] = "max_length"
    padding_level: ClassVar[float] = 0.0

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
        **kwargs: Any,
    ):
        kwargs["feature_size"] = num_mel_bins  # `pad` and the data collators need the width of one frame
        super().__init__(
            sampling_rate=sampling_rate,
            padding_value=padding_value,
            return_attention_mask=return_attention_mask,
            **kwargs,
        )
        self.num_mel_bins = num_mel_bins
        self.max_length = max_length
        self.mean = mean
        self.std = std
        self.do_normalize = do_normalize

    def num_frames(self, num_samples: int) -> int:
        """Frames of a clip of that many samples."""
        raise NotImplementedError

    def num_samples(self, num_frames: int) -> int:
        """Samples of a clip that has that many frames and ends with a whole one."""
        raise NotImplementedError

    @property
    def max_samples(self) -> int:
        """Samples that fill `max_length` frames: the longest clip of which nothing is cut off."""
        return self.num_samples(self.max_length)

    @property
    def min_samples(self) -> int:
        """Samples of the shortest clip that the filter bank takes."""
        return self.num_samples(1)

    def _log_mel(self, waveform: Tensor) -> Tensor:
        """Waveforms (B, S) -> log-mel spectrograms (B, T, M), not normalised."""
        raise NotImplementedError

    def _prepared(self, clip: Tensor) -> Tensor:
        """A waveform (S,) as the family wants it before it is cut."""
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
        """Everything that `from_pretrained` needs."""
        values = super().to_dict()
        values["padding_value"] = values.pop("_padding_value", None)
        return values

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

        Args:
            raw_speech: Float samples in [-1, 1]: shape (S,), (B, S), or a list of clips of any lengths; arrays,
                tensors or lists.
            sampling_rate: Of the waveforms, in Hz; checked against the extractor's.
            return_tensors: "pt" or "np" for one array, None for a list of arrays.
            padding: "max_length"; "longest" or True for the longest clip of the batch; False for none. By default what
                the models of the family were made for: "max_length" for AST and SSAST, "longest" for PaSST.
            truncation: Whether to cut clips at the end to `max_length` frames (with a warning); an error if False and
                `padding="max_length"`.
            max_length: Frames; the extractor's own if None.
            return_attention_mask: Whether to return the frame mask; by default with "longest".
            device: Where to compute; results of "pt" stay there. By default where the given tensors are.

        Returns:
            `input_values` (B, T, M), and `attention_mask` (B, T), 1 for real frames, if asked for.

        Raises:
            ValueError: Wrong sampling rate, integer samples, more than one channel, an empty or too short clip, or
                values that are not finite.
        """
        self._check_sampling_rate(sampling_rate)
        clips = [self._as_waveform(clip, index) for index, clip in enumerate(_as_clips(raw_speech))]
        _check_peaks(clips)
        if device is not None:
            clips = [clip.to(device) for clip in clips]
        padding = self.default_padding if padding is None else padding
        longest = padding in (True, "longest")
        max_length = self.max_length if max_length is None else max_length
        lengths = [self.num_frames(len(clip)) for clip in clips]
        if truncation:
            lengths = self._cut(lengths, max_length)
        elif padding == "max_length" and max(lengths) > max_length:
            raise ValueError(
                f"A clip has {max(lengths)} frames, max_length={max_length}; use truncation=True, padding='longest' "
                "or a larger max_length."
            )
        padded = longest or padding == "max_length"
        if not padded and padding not in (False, "do_not_pad"):
            raise ValueError(f"padding={padding!r} is unknown; choose 'max_length', 'longest' or False.")
        shape = (len(clips), max(lengths) if longest else max_length)
        features = self._features(clips, lengths)
        if padded:
            features = _padded(features, (*shape, self.num_mel_bins), self.padding_value)
        data = {"input_values": features}
        if return_attention_mask is None:
            return_attention_mask = self.return_attention_mask or longest
        if return_attention_mask:
            masks = [torch.ones(length, dtype=torch.long, device=clips[0].device) for length in lengths]
            data["attention_mask"] = _padded(masks, shape, 0) if padded else masks
        return _to_batch(data, return_tensors)

    def _cut(self, lengths: list[int], max_length: int) -> list[int]:
        """Frames that stay of clips with so many."""
        if max(lengths) > max_length:
            seconds = self.num_samples(max_length) / self.sampling_rate
            logger.warning_once(
                f"Audio beyond {max_length} frames ({seconds:.4g} s) is cut off, as in the official code. Pass "
                "shorter windows, a larger max_length, or truncation=False with padding='longest'."
            )
        return [min(length, max_length) for length in lengths]

    def _features(self, clips: list[Tensor], lengths: list[int]) -> Iterator[Tensor]:
        """Spectrograms (T, M) of the clips, cut to so many frames; one by one on a CPU, to reuse its memory."""
        whole = (self._prepared(clip) for clip in clips)
        prepared = (
            clip if length == self.num_frames(len(clip)) else clip[: self.num_samples(length)]
            for clip, length in zip(whole, lengths, strict=True)
        )
        if clips[0].device.type == "cpu" or len({len(clip) for clip in clips}) > 1:
            features = (self._log_mel(clip[None])[0] for clip in prepared)
        else:
            features = iter(self._log_mel(torch.stack(list(prepared))))
        for feature in features:
            yield (feature - self.mean) / (self.std * 2) if self.do_normalize else feature

    def _check_sampling_rate(self, sampling_rate: int | None) -> None:
        if sampling_rate is None:
            logger.warning_once(
                f"Pass sampling_rate to {type(self).__name__}: waveforms are taken to have {self.sampling_rate} Hz, "
                "and others give wrong results without an error."
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"sampling_rate={sampling_rate} Hz, but this extractor works at {self.sampling_rate} Hz; resample the "
                f"waveform first, for example with `hf_ast.audio.resample(waveform, {sampling_rate}, "
                f"{self.sampling_rate})`."
            )

    def _as_waveform(self, clip: Any, index: int) -> Tensor:
        """One clip as a float32 tensor (S,), or an error that says what is wrong with its shape or type."""
        clip = clip if isinstance(clip, Tensor) else torch.as_tensor(np.asarray(clip))
        if clip.ndim != 1:
            raise ValueError(
                f"raw_speech[{index}] has shape {tuple(clip.shape)}, but must be mono, shape (samples,); mix stereo "
                "down with `waveform.mean(axis)` over the channel axis."
            )
        if not clip.is_floating_point():
            raise ValueError(
                f"raw_speech[{index}] holds {clip.dtype}, but must be float samples in [-1, 1]; divide 16-bit samples "
                "by 32768."
            )
        if len(clip) < self.min_samples:
            duration_ms = 1000 * self.min_samples / self.sampling_rate
            raise ValueError(
                f"raw_speech[{index}] has {len(clip)} samples, but at least {self.min_samples} "
                f"({duration_ms:.3g} ms, one frame) are needed; pad it with zeros. A stereo waveform of shape "
                "(samples, channels) must be mixed down first."
            )
        return clip.detach().float()


def _check_peaks(clips: list[Tensor]) -> None:
    """Raise an error if a clip has values that are no samples in [-1, 1]."""
    peaks = torch.stack([clip.abs().max() for clip in clips]).tolist()  # waits for a GPU once, not per clip
    for index, peak in enumerate(peaks):
        if not peak <= LOUDEST_PEAK:
            raise ValueError(
                f"raw_speech[{index}] has a peak of {peak}, but must hold finite samples in [-1, 1]; remove NaN and "
                "infinite values, and divide 16-bit samples by 32768."
            )


def _as_clips(raw_speech: Any) -> list[Any]:
    """One clip or a batch of clips -> the list of clips."""
    if isinstance(raw_speech, np.ndarray | Tensor):
        if raw_speech.ndim not in (1, 2):
            raise ValueError(
                f"raw_speech has shape {tuple(raw_speech.shape)}, but must be (samples,) or (batch, samples); mix "
                "stereo down with `waveform.mean(axis)` over the channel axis."
            )
        return list(raw_speech) if raw_speech.ndim == 2 else [raw_speech]
    if len(raw_speech) == 0:
        raise ValueError("raw_speech is empty; pass at least one clip.")
    if isinstance(raw_speech[0], int | float | np.number):
        return [np.asarray(raw_speech)]
    return list(raw_speech)


def _padded(items: Iterable[Tensor], shape: tuple[int, ...], value: float) -> Tensor:
    """Tensors of different lengths in one of a given shape (B, T, ...), with `value` behind the shorter ones."""
    batch: Tensor | None = None
    for index, item in enumerate(items):
        if batch is None:
            batch = item.new_full(shape, value)
        batch[index, : len(item)] = item
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
    lists = {name: [item.cpu().numpy() for item in value] for name, value in data.items()}
    return BatchFeature(lists, tensor_type=return_tensors)
