"""Reading and resampling recordings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hf_ast.data import audio
from tests.support.recordings import sine


@pytest.mark.parametrize(("suffix", "tolerance"), [("wav", 2**-15), ("flac", 2**-15), ("ogg", 0.02)])
def test_read_gives_the_mean_of_the_channels(tmp_path: Path, suffix: str, tolerance: float) -> None:
    left, right = sine(16000), sine(16000, frequency_hz=660.0)
    file = tmp_path / f"stereo.{suffix}"
    soundfile.write(file, np.stack((left, right), axis=1), 16000)
    for source in (file, str(file), file.read_bytes()):
        waveform, rate = audio.read(source)
        assert (waveform.dtype, waveform.shape, rate) == (np.float32, (16000,), 16000)
        assert np.abs(waveform - (left + right) / 2).max() <= tolerance


def test_read_resamples(tmp_path: Path) -> None:
    file = tmp_path / "tone.wav"
    soundfile.write(file, sine(44100), 44100, subtype="FLOAT")
    waveform, rate = audio.read(file, 16000)
    assert (len(waveform), rate) == (16000, 16000)
    # away from the edges, where the filter has no samples on one side
    assert np.abs(waveform - sine(16000))[200:-200].max() < 1e-4


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.wav"):
        audio.read(tmp_path / "nothing.wav")
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(ValueError, match=r"text.wav' cannot be read.*FLAC"):
        audio.read(tmp_path / "text.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16000)
    with pytest.raises(ValueError, match="no samples"):
        audio.read(tmp_path / "empty.wav")


@pytest.mark.parametrize("rate", [16000, 44100, 22050])
@pytest.mark.parametrize("block_s", [0.013, 0.5, 100.0])
def test_a_stream_is_what_read_gives(tmp_path: Path, rate: int, block_s: float) -> None:
    """Bit for bit, the edges of the blocks included: the resampler carries its state over them."""
    stereo = 0.1 * np.random.default_rng(0).standard_normal((2 * rate + 17, 2)).astype(np.float32)
    path = tmp_path / "noise.wav"
    soundfile.write(path, stereo, rate, subtype="FLOAT")
    whole, _ = audio.read(path, 16000)
    for source in (path, {"array": stereo, "sampling_rate": rate}):
        blocks = list(audio.stream(source, 16000, block_s=block_s))
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert max(len(block) for block in blocks) <= (block_s + 0.05) * 16000
    part, _ = audio.read(path, 16000, start_s=0.5, duration_s=1.0)
    assert len(part) == pytest.approx(16000, abs=1)
    np.testing.assert_allclose(part[800:-800], whole[8800:23200], atol=1e-4 if rate != 16000 else 0)


def test_what_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder, but must be an audio file"):
        audio.read(tmp_path)
    with pytest.raises(ValueError, match="a waveform without a sampling rate; give it as source_rate"):
        audio.read(sine(16000))
    with pytest.raises(ValueError, match="holds no samples in that part"):
        audio.read(sine(16000), 16000, start_s=2.0)


@pytest.mark.parametrize("function", [audio.read, audio.duration])
def test_a_recording_without_samples_is_the_same_error_everywhere(
    function: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0, np.float32), 16000)
    with pytest.raises(ValueError, match=r"file='.*empty\.wav' holds no samples\."):
        function(path)
    with pytest.raises(ValueError, match=r"source holds no samples\."):
        function(np.zeros(0, np.float32), source_rate=16000)
