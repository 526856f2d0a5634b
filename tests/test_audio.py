"""Reading and resampling recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_ast import audio
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
