"""Recordings as phones, radios, recorders and download scripts leave them: all of each, or a sentence that says what.

The files in `recordings/` are our own synthetic words; each ends with 0.3 s of 1 kHz and 0.2 s of silence.
"""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_ast.cli import main
from hf_ast.data import audio
from hf_ast.data.audio import RecordingWarning
from tests.support.encoding import CASES, by_ffmpeg, by_soundfile, ends_with_the_marker, marked

RECORDINGS = Path(__file__).parent / "recordings"
WHOLE = {  # seconds of the original, and how much the codec adds where nothing states it
    "vbr_no_header.mp3": (9.0, 0.05),
    "vbr_16k_no_header.mp3": (7.25, 0.1),
    "joined.ogg": (10.5, 0.0),
    "joined.opus": (10.5, 0.0),
    "joined.mp3": (10.5, 0.0),
    "joined.flac": (10.25, 0.0),
    "phone.m4a": (3.0, 0.0),
    "video.mp4": (7.5, 0.0),
    "meeting.webm": (3.0, 0.0),
    "call_gsm.wav": (7.25, 0.04),
    "stream.flac": (7.25, 0.0),
    "alac.m4a": (7.25, 0.0),
    "old.wma": (3.0, 0.03),
}


def marker_is_heard(waveform: np.ndarray, rate: int) -> bool:
    part = waveform[-round(0.55 * rate) :][: round(0.4 * rate)]
    frequency_hz = np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() * rate / len(part)
    return abs(float(frequency_hz) - 1000) <= 30


@pytest.mark.parametrize("name", WHOLE)
def test_a_recording_from_the_field_is_read_to_its_end(name: str) -> None:
    duration_s, added_s = WHOLE[name]
    said: list[str] = []
    waveform, rate = audio.read(RECORDINGS / name, warn=said.append)
    assert said == []
    assert len(waveform) / rate == pytest.approx(duration_s, abs=added_s + 1e-3)
    assert marker_is_heard(waveform, rate)
    assert audio.duration(RECORDINGS / name) == len(waveform) / rate
    resampled, _ = audio.read(RECORDINGS / name, 16000)
    np.testing.assert_array_equal(np.concatenate(list(audio.stream(RECORDINGS / name, 16000))), resampled)


def test_a_recording_that_is_cut_names_what_was_promised_and_found(tmp_path: Path) -> None:
    with pytest.warns(RecordingWarning, match=r"cut\.mp3' lacks 3\.79 s: .* promises 7\.50 s, and 3\.71 s were found"):
        waveform, rate = audio.read(RECORDINGS / "cut.mp3")
    assert len(waveform) / rate == pytest.approx(3.71, abs=0.01)
    content = by_soundfile("WAV", "PCM_16")(marked(16000, 4.0), 16000)
    (tmp_path / "cut.wav").write_bytes(content[: 44 + 2 * 16000])
    with pytest.warns(RecordingWarning, match=r"cut\.wav' lacks 3\.00 s: .* promises 4\.00 s, and 1\.00 s") as w:
        waveform, _ = audio.read(tmp_path / "cut.wav")
    assert w[0].filename == __file__
    np.testing.assert_array_equal(waveform, soundfile.read(io.BytesIO(content), dtype="float32")[0][:16000])


def test_a_hole_is_silent_and_what_follows_stays_in_its_place() -> None:
    said: list[str] = []
    waveform, rate = audio.read(RECORDINGS / "hole.flac", warn=said.append)
    whole, _ = audio.read(RECORDINGS / "stream.flac")  # the same words
    assert len(waveform) == len(whole)
    differs = np.flatnonzero(waveform != whole)
    assert 0 < len(differs) <= 0.2 * rate
    assert differs[0] / rate == pytest.approx(4.5, abs=0.2)
    assert len(said) == 1
    assert "is damaged: 0.07 s of it cannot be decoded, the first at 4.61 s" in said[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.mp3", "is empty: it has no bytes"),
        ("page.mp3", "holds a web page or XML, and no recording"),
        ("header_only.wav", "holds no samples"),
    ],
)
def test_what_is_no_recording_is_one_clear_error(name: str, said: str) -> None:
    for read in (audio.read, audio.duration):
        with pytest.raises(ValueError, match=f"{name}' .*{said}"):
            read(RECORDINGS / name)


@pytest.mark.parametrize("kind", ["text", "json", "zip", "picture", "noise", "utf-16"])
def test_other_files_are_refused(kind: str, tmp_path: Path) -> None:
    content = {
        "text": b"not audio, but a few words\n" * 500,
        "json": b'{"error": "file not found"}',
        "zip": b"PK\x03\x04" + bytes(5000),
        "picture": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + np.random.default_rng(0).bytes(20_000),
        "noise": np.random.default_rng(1).bytes(200_000),
        "utf-16": ("words " * 1000).encode("utf-16"),
    }[kind]
    (tmp_path / "other.mp3").write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.mp3' cannot be read .*convert it to one of: WAV, "):
        audio.read(tmp_path / "other.mp3")


@pytest.mark.parametrize("name", [("MP3", "MP3"), ("AAC", "AAC"), ("MP4", "AAC"), ("Ogg", "Opus"), ("FLAC", "FLAC")])
def test_zeros_in_the_middle_are_noticed(name: tuple[str, str]) -> None:
    """As a disk or a download leaves them."""
    case = CASES[name]
    content = bytearray(case.make(marked(case.rate, 6.0), case.rate))
    middle, size = len(content) // 2, max(2000, len(content) // 10)
    content[middle : middle + size] = bytes(size)
    said: list[str] = []
    waveform, rate = audio.read(bytes(content), warn=said.append)
    assert any("damaged" in sentence or "lacks" in sentence for sentence in said)
    assert 4.0 <= len(waveform) / rate <= 6.1
    assert ends_with_the_marker(waveform, rate)


def test_a_stream_recorded_from_a_radio_is_no_damage() -> None:
    """It begins in the middle of an MP3 frame, and ends there."""
    content = by_ffmpeg("mp3", "libmp3lame", {"bit_rate": 64000})(marked(44100, 6.0), 44100)
    said: list[str] = []
    waveform, rate = audio.read(content[len(content) // 3 : -1111], warn=said.append)
    assert said == []
    assert len(waveform) / rate == pytest.approx(4.0, abs=0.4)


def test_a_header_that_was_written_too_early_is_named_and_all_is_read() -> None:
    content = bytearray(by_soundfile("WAV", "PCM_16")(marked(16000, 2.0), 16000))
    content[40:44] = (16000).to_bytes(4, "little")
    said: list[str] = []
    waveform, rate = audio.read(bytes(content), warn=said.append)
    assert (len(waveform), rate) == (32000, 16000)
    assert "0.50 s were promised, and 2.00 s were found and read" in said[0]


def test_chunks_behind_the_samples_are_no_samples() -> None:
    content = by_soundfile("WAV", "PCM_16")(marked(16000), 16000)
    for tail in (b"LIST\x0c\0\0\0INFOISFT\0\0\0\0", b"id3 \x04\0\0\0ID3\x04", bytes(1000), b"TAG" + bytes(125)):
        said: list[str] = []
        waveform, _ = audio.read(content + tail, warn=said.append)
        assert (len(waveform), said) == (24000, [])


def test_commands_say_once_per_file_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(RECORDINGS / name) for name in ("cut.mp3", "hole.flac", "phone.m4a")]
    assert main(["tag", *files, "--json"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert [line.split("'")[0] for line in lines] == ["warning: file=", "warning: file="]
    assert "cut.mp3' lacks 3.79 s" in lines[0]
    assert "hole.flac' is damaged" in lines[1]
