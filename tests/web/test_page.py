"""The page of `web/` in Chromium, with a recording as its microphone: `make test-browser` builds it and runs this."""

import functools
import io
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

import hf_ast
from hf_ast.assets import EMBEDDED_MODEL, RECORDINGS
from hf_ast.export.folder import export_model
from hf_ast.inference.cells import CellMean
from hf_ast.inference.events import find_events
from hf_ast.inference.windows import covering_starts
from tests.support.browser import chromium
from tests.support.interpreter import ROOT
from tests.support.tiny import tiny_model

pytestmark = pytest.mark.browser

BUILT = ROOT / "build" / "web"
WORDS = ["yes", "stop", "left", "right"]
RATE = 16000
# Windows that overlap, as the guide has them
WINDOW_S, HOP_S = 1.0, 0.2
Row = tuple[float, float, str, float]


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    """The words with pauses of 1.2 s around them, at the rate of the model."""
    pause = np.zeros(19200, dtype=np.float32)
    words = [hf_ast.audio.read(RECORDINGS / f"{word}.flac", RATE)[0] for word in WORDS]
    return np.concatenate([*(part for word in words for part in (pause, word)), pause])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the built page is served."""
    assert (BUILT / "index.html").exists(), f"there is no page in {BUILT}: run `make web`"

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(BUILT))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(recording: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium whose microphone hears the recording once."""
    microphone = tmp_path_factory.mktemp("microphone") / "microphone.wav"
    soundfile.write(microphone, soxr.resample(recording, RATE, 48000), 48000, subtype="PCM_16")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(),
            args=["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}%noloop"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page with its model loaded. It makes no requests elsewhere, and nothing in it fails."""
    context = browser.new_context(permissions=["microphone"])
    page = context.new_page()
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    opened(page, address)
    yield page
    context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith((address, "data:", f"blob:{address}"))] == []


def opened(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#status")).to_have_text("Ready.", timeout=60_000)


def overlap(page: Page) -> None:
    """Windows of `WINDOW_S` every `HOP_S`."""
    page.locator("summary").click()
    page.locator("#window").fill(str(WINDOW_S))
    page.locator("#hop").fill(str(HOP_S))


def rows(page: Page) -> list[Row]:
    """Start, end, label and score of what is listed, in the order of time."""
    found = []
    for row in page.locator("#heard tr").all():
        time, label, score = row.locator("td").all_inner_texts()
        start, end = re.fullmatch(r"([\d.]+) – ([\d.]+) s", time).groups()
        found.append((float(start), float(end), label, float(score.removesuffix("%")) / 100))
    return sorted(found)


def open_file(page: Page, content: bytes, name: str = "words.wav") -> None:
    page.locator("#file").set_input_files({"name": name, "mimeType": "audio/wav", "buffer": content})
    expect(page.locator("#listen")).to_be_enabled(timeout=60_000)


def as_wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def test_words_at_the_microphone(page: Page) -> None:
    overlap(page)
    page.get_by_role("button", name="Start microphone").click()
    expect(page.locator("#bars li")).to_have_count(5, timeout=20_000)
    expect(page.locator("#heard tr")).to_have_count(len(WORDS), timeout=30_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.")
    heard = rows(page)
    assert [row[2] for row in heard] == WORDS, heard
    # A word and a pause take 2.2 s; an event is located to a third of a window, and at steps of the hop
    assert np.diff([start for start, *_ in heard]) == pytest.approx(2.2, abs=WINDOW_S / 3 + HOP_S)
    expect(page.locator("#error")).to_be_hidden()


@pytest.mark.parametrize("settings", [{}, {"window_s": WINDOW_S, "hop_s": HOP_S}], ids=["defaults", "overlap"])
def test_a_file_gives_the_events_of_tag(page: Page, recording: np.ndarray, settings: dict[str, float]) -> None:
    if settings:
        overlap(page)
    open_file(page, as_wav(recording))
    tagging = hf_ast.tag(*hf_ast.load_classifier(EMBEDDED_MODEL), recording, **settings)
    expected = [event for event in tagging.events if not event.label.startswith("_")]
    assert not settings or [event.label for event in expected] == WORDS
    heard = rows(page)
    assert [row[2] for row in heard] == [event.label for event in expected]
    for (start_s, end_s, _, peak), event in zip(heard, expected, strict=True):
        # The page rounds
        assert (start_s, end_s) == pytest.approx((event.start_s, event.end_s), abs=0.0051)
        assert peak == pytest.approx(event.peak, abs=0.0051)
    expect(page.locator("#status")).to_have_text("words.wav: 10.0 s")


def test_a_stereo_file_at_another_rate(page: Page, recording: np.ndarray) -> None:
    overlap(page)
    resampled = soxr.resample(recording, RATE, 44100)
    open_file(page, as_wav(np.stack((2 * resampled, np.zeros_like(resampled)), axis=1), 44100))
    assert [row[2] for row in rows(page)] == WORDS


def test_a_file_shorter_than_a_window(page: Page) -> None:
    open_file(page, (RECORDINGS / "stop.flac").read_bytes(), "stop.flac")
    assert [row[2] for row in rows(page)] == ["stop"]
    open_file(page, as_wav(np.zeros(3200, dtype=np.float32)), "pause.wav")
    assert rows(page) == []
    expect(page.locator("#nothing")).to_have_text("None of the labels was heard.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            b"RIFF, and then nothing",
            "words.wav cannot be read: it is damaged, or in a format that this browser does not know.",
            id="damaged",
        ),
        pytest.param(
            as_wav(np.zeros(0, dtype=np.float32)),
            "words.wav cannot be read: it is damaged, or in a format that this browser does not know.",
            id="empty",
        ),
    ],
)
def test_files_that_cannot_be_labelled(page: Page, recording: np.ndarray, content: bytes, message: str) -> None:
    open_file(page, content)
    expect(page.get_by_role("alert")).to_have_text(message)
    overlap(page)
    open_file(page, as_wav(recording[:40000]))
    expect(page.get_by_role("alert")).to_be_hidden()
    assert [row[2] for row in rows(page)] == WORDS[:1]


def test_settings_out_of_range(page: Page, recording: np.ndarray) -> None:
    page.locator("summary").click()
    page.locator("#window").fill("1")
    page.locator("#hop").fill("1.1")
    open_file(page, as_wav(recording))
    expect(page.get_by_role("alert")).to_contain_text("must not be longer than a window")
    page.locator("#hop").fill("0.2")
    page.locator("#window").fill("2")  # longer than the model takes
    open_file(page, as_wav(recording))
    assert page.locator("#window").evaluate("input => input.validationMessage") != ""
    assert rows(page) == []


def test_a_microphone_that_is_not_allowed(browser: Browser, address: str) -> None:
    context = browser.new_context(permissions=[])
    page = context.new_page()
    opened(page, address)
    page.get_by_role("button", name="Start microphone").click()
    expect(page.get_by_role("alert")).to_contain_text("The microphone is not allowed.")
    expect(page.get_by_role("button", name="Start microphone")).to_be_enabled()
    context.close()


def test_events_are_those_of_find_events(page: Page) -> None:
    """Of the same windows, as a whole: exactly, because both compute sums in float64 and scores in float32."""
    rng = np.random.default_rng(0)
    num_events = 0
    for _ in range(40):
        window, num_samples = int(rng.integers(1, 60)), int(rng.integers(1, 900))
        hop, threshold = int(rng.integers(1, window + 1)), float(rng.choice([0.4, 0.5, 0.6]))
        starts, length = covering_starts(num_samples, window, hop), min(window, num_samples)
        # Slowly changing, so that there are runs
        noise = rng.random((len(starts) + 2, 3))
        scores = np.lib.stride_tricks.sliding_window_view(noise, 3, axis=0).mean(-1).astype(np.float32)
        found = page.evaluate(
            """async ([scores, numSamples, window, hop, threshold]) => {
                const { coveringStarts, WindowStream } = await import("./windows.js");
                const { findEvents } = await import("./events.js");
                const starts = coveringStarts(numSamples, window, hop);
                const stream = new WindowStream(window, hop);
                const windows = [...stream.push(new Float32Array(numSamples)), ...stream.flush()];
                const length = Math.min(window, numSamples);
                const events = findEvents(scores, starts, length, ["a", "b", "c"], { hop, threshold });
                return { starts, streamed: windows.map((window) => window.start), events };
            }""",
            [scores.tolist(), num_samples, window, hop, threshold],
        )
        assert found["starts"] == found["streamed"] == starts
        cells = CellMean(hop, sampling_rate=1).whole(starts, length, scores[:, None])
        expected = find_events(cells.scores, cells.edges_s, ["a", "b", "c"], threshold=threshold)
        assert [(e["label"], e["start"], e["end"], e["peak"]) for e in found["events"]] == expected
        num_events += len(expected)
    assert num_events > 400


def test_a_recording_shorter_than_a_frame_is_labelled(page: Page, recording: np.ndarray) -> None:
    open_file(page, as_wav(recording[:160]))
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#status")).to_have_text("words.wav: 0.0 s")


def test_another_model(page: Page, address: str, tmp_path: Path) -> None:
    """Labels, rate, lengths and activation are those of the export."""
    torch.manual_seed(0)
    model = tiny_model(num_labels=3, problem_type="multi_label_classification").eval()
    extractor = hf_ast.HfASTFeatureExtractor(num_mel_bins=32, max_length=50, sampling_rate=8000)
    folder = export_model(model, extractor, tmp_path / "model").folder

    def answer(route: Route) -> None:
        route.fulfill(path=folder / route.request.url.rpartition("/")[2])

    page.route("**/model/*", answer)
    opened(page, address)
    expect(page.locator("#about")).to_contain_text("3 labels")
    page.locator("summary").click()
    page.locator("#threshold").fill("0.01")
    samples = np.random.default_rng(0).normal(0, 0.1, 2000).astype(np.float32)
    open_file(page, as_wav(samples, 8000))
    scores = model(**extractor(samples, sampling_rate=8000, return_tensors="pt")).logits[0].sigmoid()
    by_label = {row[2]: row[3] for row in rows(page)}
    assert by_label == pytest.approx(
        {label: scores[index].item() for index, label in model.config.id2label.items()}, abs=0.0051
    )


@pytest.mark.parametrize("size", [(360, 740), (1280, 800)], ids=["phone", "desktop"])
def test_nothing_is_cut_off(page: Page, recording: np.ndarray, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    open_file(page, as_wav(recording))
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
