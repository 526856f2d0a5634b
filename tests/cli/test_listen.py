"""`hf-ast listen`, with a stand-in for the microphone that plays a recording: machines that test have none."""

import json
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hf_ast import audio, load_classifier, tag
from hf_ast.assets import EMBEDDED_MODEL, RECORDINGS
from hf_ast.cli import main
from hf_ast.inference.microphone import microphone

RATE = 44100


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What the microphone hears, at its own rate."""
    recordings = [audio.read(RECORDINGS / f"{word}.flac", RATE)[0] for word in ("yes", "stop")]
    sound = np.concatenate([*recordings, *recordings])

    class InputStream:
        def __init__(self, *, callback: Callable[..., None], blocksize: int, samplerate: int, **settings: Any):
            assert (samplerate, settings["channels"], settings["dtype"]) == (RATE, 1, "float32")
            blocks = [sound[start : start + blocksize, None] for start in range(0, len(sound), blocksize)]
            blocks += [np.zeros((blocksize, 1), dtype=np.float32)] * 10
            self.thread = threading.Thread(target=lambda: [callback(block, len(block), None, "") for block in blocks])

        def __enter__(self) -> None:
            self.thread.start()

        def __exit__(self, *error: object) -> None:
            self.thread.join()

    module = ModuleType("sounddevice")
    module.InputStream = InputStream
    module.PortAudioError = type("PortAudioError", (Exception,), {})

    def query_devices(device: Any, kind: str) -> dict[str, float]:
        if device == 99:
            raise module.PortAudioError("Error querying device 99")
        return {"default_samplerate": float(RATE)}

    module.query_devices = query_devices
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return sound


def test_the_microphone_is_resampled(played: np.ndarray) -> None:
    heard = np.concatenate(list(microphone(16000, duration_s=len(played) / RATE)))
    np.testing.assert_array_equal(heard, audio.resample(played, RATE, 16000))


def test_results_are_those_of_the_recording(played: np.ndarray, capsys: pytest.CaptureFixture) -> None:
    assert main(["listen", "--json", "--top-k", "1", "--hop", "0.4", "--duration", f"{len(played) / RATE}"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = tag(*load_classifier(EMBEDDED_MODEL), {"array": played, "sampling_rate": RATE}, hop_s=0.4)
    events = [part["event"] for part in found if "event" in part]
    assert sorted((e["label"], e["start_s"], e["end_s"]) for e in events) == sorted(e[:3] for e in expected.events)
    assert len(events) > 2
    found = [part for part in found if "event" not in part]
    assert [(w["start_s"], w["end_s"]) for w in found] == list(map(tuple, expected.window_times_s.tolist()))
    for window, (best,) in zip(found, expected.window_top(1), strict=True):
        (label,) = window["labels"]
        assert label["label"] == best.label
        assert label["score"] == pytest.approx(best.score, abs=1e-4)


def test_lines_and_bars(played: np.ndarray, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["listen", "--duration", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    times = [line.split(" s ")[0].split() for line in lines if " event: " not in line]
    assert times == [["0.0", "-", "1.6"], ["0.4", "-", "2.0"]]
    assert any(" event: " in line for line in lines)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["listen", "--duration", "1.7", "--top-k", "2"]) == 0
    shown = capsys.readouterr().out
    assert "0.1 - 1.7 s" in shown  # the last window is shown in any case
    assert "_unknown_" in shown
    assert "━" in shown


def test_ctrl_c_ends_with_the_last_window(
    played: np.ndarray, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hf_ast.inference.microphone as module

    def interrupted(rate: int, **settings: Any) -> Any:
        yield audio.resample(played, RATE, rate)[: 2 * rate]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "microphone", interrupted)
    assert main(["listen", "--json"]) == 0
    captured = capsys.readouterr()
    assert [part["end_s"] for part in json.loads(captured.out) if "event" not in part] == [1.615, 2.0]
    assert "stopped" in captured.err


def test_no_microphone(played: np.ndarray, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["listen", "--microphone", "99"]) == 1
    assert "device=99 is not a usable microphone: Error querying device 99" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(["listen"]) == 1
    assert 'pip install "hf-ast[live]"' in " ".join(capsys.readouterr().err.split())
