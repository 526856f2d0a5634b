"""Sound from a microphone, piece by piece. Needs the extra `live` (sounddevice, which needs the library PortAudio)."""

import queue
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

BLOCK_S = 0.1


def microphone(
    sampling_rate: int, *, device: int | str | None = None, duration_s: float | None = None
) -> Iterator[np.ndarray]:
    """Record from a microphone at its own rate, and resample.

    Args:
        sampling_rate: Rate of the samples that are returned, in Hz.
        device: Number of an input device, or a part of its name; the default one of the system if None.
        duration_s: How long to record, in seconds; until the caller stops if None.

    Yields:
        Consecutive mono pieces of about 0.1 s, float32 in [-1, 1], each of shape (S,).

    Raises:
        ImportError: sounddevice is not installed.
        OSError: PortAudio is not installed, there is no such microphone, or samples were lost because the caller was
            slower than the recording.
    """
    sounddevice = _sounddevice()
    import soxr

    try:
        rate = round(sounddevice.query_devices(device, "input")["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        raise OSError(f"device={device!r} is not a usable microphone: {error}.") from error
    blocks: queue.SimpleQueue[tuple[np.ndarray, Any]] = queue.SimpleQueue()

    def take(block: np.ndarray, num_samples: int, time: Any, status: Any) -> None:
        blocks.put((block[:, 0].copy(), status))

    resampler = soxr.ResampleStream(rate, sampling_rate, 1, dtype="float32")
    num_left = np.inf if duration_s is None else round(duration_s * rate)
    settings = {"samplerate": rate, "blocksize": round(BLOCK_S * rate), "channels": 1, "dtype": "float32"}
    with sounddevice.InputStream(device=device, callback=take, **settings):
        while num_left > 0:
            block, status = blocks.get()
            if status:
                raise OSError(f"The microphone lost samples ({status}): the computer is too slow for this hop.")
            block = block[: int(min(num_left, len(block)))]
            num_left -= len(block)
            yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ImportError as error:
        raise ImportError('Listening to a microphone needs sounddevice: pip install "hf-ast[live]"') from error
    except OSError as error:  # it loads the library when it is imported
        raise OSError(f"sounddevice needs PortAudio ({error}); on Debian: apt install libportaudio2") from error
    return sounddevice
