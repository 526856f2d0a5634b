"""Recordings in every format come whole and exact, or what is missing is said."""

import io
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_ast.data import audio
from hf_ast.data.formats import FORMATS, find_format, id3_bytes, looks_like_media
from tests.support.encoding import CASES, Case, by_ffmpeg, by_soundfile, encode, ends_with_the_marker, marked

every_format = pytest.mark.parametrize("name", CASES, ids="-".join)


@cache
def encoded(name: tuple[str, str]) -> tuple[Case, np.ndarray, bytes]:
    case = CASES[name]
    waveform = marked(case.rate)
    return case, waveform, case.make(waveform, case.rate)


def read_quietly(content: bytes) -> tuple[np.ndarray, int]:
    """What is read of a recording with which nothing is wrong."""
    said: list[str] = []
    result = audio.read(content, warn=said.append)
    assert said == []
    return result


def test_every_codec_of_the_table_has_a_recording() -> None:
    assert list(CASES) == sorted(CASES, key=lambda name: [row.name for row in FORMATS].index(name[0]))
    assert set(CASES) == {(row.name, codec) for row in FORMATS if row.codecs for codec in row.codecs.split(", ")}


@every_format
def test_a_recording_is_read_whole_and_its_parts_are_those_of_the_whole(name: tuple[str, str]) -> None:
    case, original, content = encoded(name)
    if name[0] != "HTK":  # it has no signature
        assert looks_like_media(content[:4096])
        assert getattr(find_format(content[id3_bytes(content) :][:4096]), "name", None) == name[0]
    waveform, rate = read_quietly(content)
    assert abs(rate - case.rate) <= 50  # VOC and HTK store periods, not rates
    assert -case.max_lacking <= len(waveform) - len(original) <= case.max_extra
    assert ends_with_the_marker(waveform, rate)
    assert audio.duration(content) == len(waveform) / rate
    blocks = list(audio.stream(content, rate, block_s=0.1))
    np.testing.assert_array_equal(np.concatenate(blocks), waveform)
    assert max(map(len, blocks)) <= 0.1 * rate + 1
    for start_s, duration_s in [(0.0, 0.3), (0.1134, 0.1), (0.4, 0.7), (0.7543, None), (1.2, 100.0)]:
        first = round(start_s * rate)
        part, _ = audio.read(content, start_s=start_s, duration_s=duration_s)
        end = None if duration_s is None else first + round(duration_s * rate)
        np.testing.assert_array_equal(part, waveform[first:end])


@every_format
def test_a_recording_that_is_cut_is_read_as_far_as_it_goes_and_named(name: tuple[str, str]) -> None:
    case, _, content = encoded(name)
    said: list[str] = []
    try:
        waveform, rate = audio.read(content[: len(content) * 7 // 10], warn=said.append)
    except ValueError as error:  # the index was at the end, or the only block of the codec is not complete
        said.append(str(error))
        waveform, rate = np.zeros(case.rate), case.rate
    assert 0.2 <= len(waveform) / rate <= 1.3
    if case.is_cut_noticed:
        words = ("lacks", "damaged", "cannot be read", "holds no samples")
        assert any(word in sentence for word in words for sentence in said)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_joinable], ids="-".join)
def test_joined_recordings_are_read_to_the_end_of_the_last(name: tuple[str, str]) -> None:
    _, _, content = encoded(name)
    alone, rate = read_quietly(content)
    both, _ = read_quietly(content + content)
    # Streams without a header go on over the join, where decoders need a few milliseconds
    assert abs(len(both) - 2 * len(alone)) <= 0.05 * rate
    assert ends_with_the_marker(both, rate)
    assert ends_with_the_marker(both[: len(alone)], rate)
    assert audio.duration(content + content) == len(both) / rate


@pytest.mark.parametrize(
    ("make", "tolerance"),
    [
        (by_ffmpeg("mp3", "libmp3lame", {"bit_rate": 128000}), 0.03),
        (by_ffmpeg("ipod", "aac", {"bit_rate": 128000}), 0.02),
        (by_soundfile("OGG", "VORBIS"), 0.03),
        (by_ffmpeg("webm", "libopus", {"bit_rate": 96000}), 0.03),
        (by_ffmpeg("wv", "wavpack", {"format": "s16p"}), 2**-15),
        (by_ffmpeg("ipod", "alac", {"format": "s16p"}), 2**-15),
        (by_ffmpeg("avi", "pcm_s16le"), 2**-15),
        (by_ffmpeg("mov", "pcm_f32le"), 0.0),
        (by_ffmpeg("mov", "pcm_s24le"), 2**-22),
        (by_ffmpeg("matroska", "pcm_u8"), 2**-7),
        (by_ffmpeg("matroska", "pcm_f64le"), 0.0),
    ],
)
def test_samples_are_those_that_were_encoded_and_at_their_place(make: Case, tolerance: float) -> None:
    """The delay of the encoder is left out: a codec's noise is all that differs."""
    original = marked(48000)
    waveform, rate = read_quietly(make(original, 48000))
    assert rate == 48000
    num_samples = min(len(waveform), len(original))
    assert num_samples >= len(original) - 48
    difference = np.abs(waveform - original[: len(waveform)])[: num_samples - 2000]
    quiet = slice(2000, round(1.1 * 48000))  # away from the start and from the jump to the marker
    assert difference[quiet].max() <= tolerance


@pytest.mark.parametrize(
    "make", [by_soundfile("WAV", "PCM_16"), by_ffmpeg("mp3", "libmp3lame"), by_ffmpeg("ogg", "libopus")]
)
def test_several_channels_are_mixed_down(make: Case) -> None:
    left, right = marked(48000), 0.5 * marked(48000)[::-1].copy()
    stereo, _ = read_quietly(make(np.stack([left, right]), 48000))
    assert np.abs(stereo - (left + right)[: len(stereo)] / 2)[2000:-2000].mean() < 0.01


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [("ipod", "aac", 44100), ("ogg", "libopus", 48000), ("flac", "flac", 44100), ("matroska", "pcm_s16le", 44100)],
)
def test_eight_channels_are_mixed_down(container: str, codec: str, rate: int) -> None:
    """PyAV finds a ninth plane behind those of eight channels, and reading it ended the process."""
    loud = marked(rate)
    surround = np.stack([loud if number % 2 == 0 else np.zeros_like(loud) for number in range(8)])
    mono, _ = read_quietly(encode(surround, rate, container, codec))
    assert np.abs(mono[: len(loud)] - loud[: len(mono)] / 2)[2000:-2000].mean() < 0.03


@pytest.mark.parametrize("container", ["wav", "mp3", "adts", "flac", "ogg"])
def test_a_changed_sampling_rate_is_followed_and_named(container: str) -> None:
    makers = {
        "wav": by_soundfile("WAV", "PCM_16"),
        "flac": by_soundfile("FLAC", "PCM_16"),
        "mp3": by_ffmpeg("mp3", "libmp3lame"),
        "adts": by_ffmpeg("adts", "aac"),
        "ogg": by_soundfile("OGG", "VORBIS"),
    }
    content = makers[container](marked(16000), 16000) + makers[container](marked(44100), 44100)
    said: list[str] = []
    waveform, rate = audio.read(content, warn=said.append)
    assert rate == 16000
    assert len(waveform) / rate == pytest.approx(3.0, abs=0.2)
    assert ends_with_the_marker(waveform, rate)
    assert any("16,000 -> 44,100 Hz" in sentence for sentence in said)
    wanted, _ = audio.read(content, 32000, warn=said.append)
    assert ends_with_the_marker(wanted, 32000)
    np.testing.assert_array_equal(np.concatenate(list(audio.stream(content, 32000, warn=said.append))), wanted)
    assert audio.duration(content) == pytest.approx(len(waveform) / rate, abs=1e-3)
    part, _ = audio.read(content, start_s=2.0, duration_s=0.5, warn=said.append)
    np.testing.assert_allclose(part[400:-400], waveform[32400:39600], atol=2e-3)


def test_voc_of_many_blocks_is_read_without_their_heads() -> None:
    content = by_ffmpeg("voc", "pcm_s16le")(marked(16000), 16000)
    waveform, _ = read_quietly(content)
    np.testing.assert_allclose(waveform, marked(16000), atol=2**-15)


def test_flac_that_goes_on_behind_the_end_in_its_header_is_read_and_named() -> None:
    content = bytearray(by_soundfile("FLAC", "PCM_16")(marked(16000), 16000))
    numbers = int.from_bytes(content[18:26], "big")
    content[18:26] = (numbers - 24000 + 8000).to_bytes(8, "big")
    said: list[str] = []
    waveform, _ = audio.read(bytes(content), warn=said.append)
    np.testing.assert_allclose(waveform, marked(16000), atol=2**-15)
    assert len(said) == 1
    assert "0.50 s were promised, and 1.50 s were found and read" in said[0]
    assert audio.duration(bytes(content)) == 1.5


def test_a_few_bytes_behind_the_samples_of_wav_are_no_samples() -> None:
    content = by_soundfile("WAV", "PCM_16")(marked(16000), 16000)
    waveform, _ = read_quietly(content + bytes(range(1, 200)) * 5)
    np.testing.assert_array_equal(waveform, read_quietly(content)[0])


def test_a_changed_number_of_channels_is_mixed_down() -> None:
    make = by_soundfile("FLAC", "PCM_16")
    mono, stereo = marked(16000), np.stack([marked(16000), np.zeros(24000, np.float32)])
    waveform, _ = read_quietly(make(mono, 16000) + make(stereo, 16000))
    np.testing.assert_allclose(waveform[:24000], mono, atol=2**-15)
    np.testing.assert_allclose(waveform[24000:], mono / 2, atol=2**-14)


@pytest.mark.parametrize(
    "name", [("WAV", "PCM"), ("FLAC", "FLAC"), ("Ogg Vorbis", "Vorbis"), ("MP3", "MP3"), ("MP4", "AAC")]
)
def test_the_suffix_does_not_matter(name: tuple[str, str], tmp_path: Path) -> None:
    _, _, content = encoded(name)
    expected, _ = read_quietly(content)
    for suffix in (".mp3", ".wav", ".txt", ""):
        path = tmp_path / f"recording{suffix}"
        path.write_bytes(content)
        np.testing.assert_array_equal(audio.read(path)[0], expected)


@pytest.mark.parametrize(
    "name", [("FLAC", "FLAC"), ("MP3", "MP3"), ("AAC", "AAC"), ("WAV", "PCM"), ("True Audio", "TTA")]
)
def test_a_tag_before_a_recording_is_no_part_of_it(name: tuple[str, str]) -> None:
    """ID3 belongs to MP3, but is found before every format."""
    _, _, content = encoded(name)
    content = content[id3_bytes(content) :]
    body = b"TIT2\0\0\0\x06\0\0\x03title" + bytes(90_000)
    size = len(body)
    tag = b"ID3\x04\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + body
    expected, _ = read_quietly(content)
    np.testing.assert_array_equal(read_quietly(tag + content)[0], expected)


def test_several_tracks_are_named() -> None:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        streams = [output.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray((marked(16000) * 32767).astype(np.int16)[None], layout="mono")
            frame.sample_rate = 16000
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    said: list[str] = []
    waveform, _ = audio.read(buffer.getvalue(), warn=said.append)
    np.testing.assert_allclose(waveform, marked(16000), atol=2**-14)
    assert len(said) == 1
    assert "holds 2 sound tracks, of which number 1 is read" in said[0]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("size", [0, 2**32 - 1, 2**31 - 1, 0x7FFFF000])
def test_a_data_size_that_recorders_leave_open_means_all(subtype: str, size: int) -> None:
    content = bytearray(by_soundfile("WAV", subtype)(marked(16000), 16000))
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    place = content.index(b"data") + 4
    content[place : place + 4] = size.to_bytes(4, "little")
    np.testing.assert_array_equal(read_quietly(bytes(content))[0], expected)
    assert audio.duration(bytes(content)) == len(expected) / 16000


@pytest.mark.parametrize(
    ("missing", "read", "refused"),
    [("av", [("WAV", "PCM"), ("FLAC", "FLAC"), ("Ogg Vorbis", "Vorbis"), ("MP3", "MP3")], ("MP4", "AAC")),
     ("soundfile", [("WAV", "PCM"), ("FLAC", "FLAC"), ("MP3", "MP3"), ("MP4", "AAC")], ("WVE", "A-law"))],
)  # fmt: skip
def test_one_decoder_reads_what_it_can_where_the_other_is_missing(
    missing: str, read: list[tuple[str, str]], refused: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {name: encoded(name) for name in (*read, refused)}
    monkeypatch.setitem(sys.modules, missing, None)
    for name in read:
        case, original, content = contents[name]
        waveform, rate = audio.read(content)
        assert len(waveform) / rate == pytest.approx(len(original) / case.rate, abs=0.01)
    with pytest.raises(ImportError, match=rf'needs {missing}: pip install "hf-ast\[audio\]"'):
        audio.read(contents[refused][2])


@pytest.mark.parametrize("head", [b"", b"\xff\xfb\x90\x04", b"ID3\x04\0\0\0\0\0\0"], ids=["noise", "frame", "tag"])
def test_what_is_no_mp3_is_one_error_and_decoders_print_nothing(
    head: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "music.mp3"
    for seed in range(5):
        path.write_bytes(head + np.random.default_rng(seed).bytes(20_000).replace(b"\xff", b"\xfe"))
        with pytest.raises(ValueError, match=r"music\.mp3' cannot be read .*Check that it is a recording"):
            audio.read(path)
    assert capfd.readouterr() == ("", "")
