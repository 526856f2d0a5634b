"""Audio files that lie, and paths that are no files: an error that says what is wrong, in bounded memory and time."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import strategies as st

from hf_ast.cli import main
from hf_ast.data import audio
from tests.support.cases import cases, outcome
from tests.support.encoding import CASES, by_soundfile
from tests.support.recordings import sine
from tests.trust.test_hostile_checkpoints import bounded

SIZES = st.sampled_from([0, 1, 2, 3, 8, 100, 1000, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1])


def wav(
    rate: int, channels: int, bits: int, data_size: int, riff_size: int, kind: int = 1, num_bytes: int = 3200
) -> bytes:
    """A WAV file whose header says what one likes, over so many bytes of samples."""
    frame = channels * bits // 8 % 2**16
    header = struct.pack("<HHIIHH", kind, channels % 2**16, rate, rate * frame % 2**32, frame, bits)
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", data_size)
    return b"RIFF" + struct.pack("<I", riff_size) + b"WAVE" + chunks + bytes(num_bytes)


@cases(
    3,
    rate=st.one_of(st.sampled_from([16000, 44100]), SIZES),
    channels=st.one_of(st.just(1), SIZES.map(lambda size: size % 2**16)),
    bits=st.sampled_from([16, 8, 24, 32, 0, 1, 7, 64, 2**15]),
    data_size=st.one_of(st.just(3200), SIZES),
    riff_size=st.one_of(st.just(3236), SIZES),
    kind=st.sampled_from([1, 3, 0, 2, 6, 7, 0x11, 0xFFFE, 0xFFFF]),
)
def test_headers_that_lie(rate: int, channels: int, bits: int, data_size: int, riff_size: int, kind: int) -> None:
    """Of what is said and what is there, no more than what is there is read."""
    content = wav(rate, channels, bits, data_size, riff_size, kind)
    result = outcome(lambda: audio.read(content, 16000), "file=")
    if result is not None:
        assert np.isfinite(result[0]).all()
        assert len(result[0]) <= 16 * 8 * 3200 + 1000
        assert audio.duration(content) == pytest.approx(len(result[0]) / 16000, abs=1e-3)


FORMATS = {
    "wav": "PCM_16",
    "flac": "PCM_16",
    "ogg": "VORBIS",
    "mp3": "MPEG_LAYER_III",
    "aiff": "PCM_16",
    "caf": "FLOAT",
}
ENCODED = {"m4a": ("MP4", "AAC"), "webm": ("Matroska", "Opus"), "wma": ("ASF", "WMA 2"), "amr": ("AMR", "AMR-NB")}
SUFFIXES = sorted(FORMATS | ENCODED)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    found = {}
    for suffix, subtype in FORMATS.items():
        path = tmp_path_factory.mktemp("formats") / f"a.{suffix}"
        soundfile.write(path, sine(16000, 0.1), 16000, subtype=subtype)
        found[suffix] = path.read_bytes()
    for suffix, name in ENCODED.items():
        case = CASES[name]
        found[suffix] = case.make(sine(case.rate, 0.1), case.rate)
    return found


@cases(3, suffix=st.sampled_from(SUFFIXES), position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_changed_bytes(recordings: dict[str, bytes], suffix: str, position: int, value: int) -> None:
    content = bytearray(recordings[suffix])
    # The first bytes are the header, where they do the most harm
    content[position % (200 if position % 2 else len(content))] = value
    result = outcome(lambda: audio.read(bytes(content), 16000), "file=")
    assert result is None or np.isfinite(result[0]).all()


@cases(1, suffix=st.sampled_from(SUFFIXES), length=st.integers(0, 10**6))
def test_truncated_files(recordings: dict[str, bytes], suffix: str, length: int) -> None:
    content = recordings[suffix]
    result = outcome(lambda: audio.read(content[: length % len(content)], 16000), "file=")
    assert result is None or np.isfinite(result[0]).all()


def flac_that_promises(num_samples: int) -> bytes:
    content = bytearray(by_soundfile("FLAC", "PCM_16")(sine(16000), 16000))
    content[21:26] = ((content[21] >> 4) << 36 | num_samples).to_bytes(5, "big")
    return bytes(content)


HUGE = {
    "length": wav(16000, 1, 16, 2**32 - 1, 2**32 - 1),
    "channels": wav(16000, 2**16 - 1, 16, 2**32 - 1, 2**32 - 1, num_bytes=2**20),
    "rate": wav(2**32 - 1, 1, 16, 3200, 3236),
    "slow": wav(1, 1, 8, 2**20, 2**20, num_bytes=2**20),
    "samples of FLAC": flac_that_promises(2**36 - 1),
}


@pytest.mark.parametrize("name", sorted(HUGE))
def test_what_a_header_claims_fills_no_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "huge.wav"
    path.write_bytes(HUGE[name])

    def read() -> None:
        result = outcome(lambda: audio.read(path, 16000), "file=")
        assert result is None or len(result[0]) <= 2**20

    bounded(read)


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "folder", "loop"])
def test_paths_that_are_no_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = name if name.startswith("/") else str(tmp_path / name)
    if name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        os.mkdir(path)
    elif name == "loop":
        os.symlink(path, path)

    def read() -> None:
        with pytest.raises((OSError, ValueError), match=r"file=.*(device, pipe|is a folder|does not exist)"):
            audio.read(path, 16000)

    bounded(read)
    assert main(["classify", path]) == 1
    assert path in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "{pipe}", "--as", "ssast-tiny-patch-400"],
        ["convert", "/dev/zero", "--as", "ssast-tiny-patch-400"],
        ["finetune", "{pipe}", "--out", "out"],
        ["extract", "{pipe}", "--out", "out"],
        ["embed", "{pipe}", "--out", "out.npz"],
        ["tag", "{pipe}"],
        ["classify", "{yes}", "--model", "{pipe}"],
    ],
)
def test_commands_do_not_wait_for_a_pipe(arguments: list[str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    yes = "hf_ast/assets/ast-keywords/recordings/yes.flac"

    def call() -> None:
        assert main([argument.format(pipe=pipe, yes=Path(yes).absolute()) for argument in arguments]) in (1, 2)

    bounded(call)
