"""The page in headless Chromium, served by the file of the Space, with a recording as its microphone.

`HF_AST_SCREENSHOTS=FOLDER` keeps pictures of the page, as wide as a desktop and as a phone.
"""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hf_ast.assets import RECORDINGS
from hf_ast.data import audio
from tests.support.browser import chromium
from tests.support.interpreter import PACKAGE, ROOT

pytestmark = pytest.mark.browser

RATE = 16000
WORDS = ("yes", "stop", "up")
DESKTOP, PHONE = (1280, 900), (390, 844)
START_S = 300  # on a busy machine; idle, it takes 10
ANALYSIS_MS = 60_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three words of a second each."""
    path = tmp_path_factory.mktemp("recording") / "three words.wav"
    soundfile.write(path, np.concatenate([audio.read(RECORDINGS / f"{word}.flac", RATE)[0] for word in WORDS]), RATE)
    return path


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the Space answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    environment = {
        **os.environ,
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("gradio")),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(PACKAGE / "demo" / "space" / "app.py")]
    with subprocess.Popen(command, env=environment) as server:
        try:
            wait_for(url, server)
            yield url
        finally:
            server.terminate()


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(START_S):
        assert server.poll() is None, "the server has ended"
        try:
            urlopen(url).close()
            return
        except OSError:
            time.sleep(1)
    raise TimeoutError(f"{url} does not answer after {START_S} s.")


@pytest.fixture(scope="module")
def browser(recording: Path) -> Iterator[Browser]:
    arguments = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={recording}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """The page, which asks no server but its own."""
    width, height = request.param
    context = browser.new_context(
        viewport={"width": width, "height": height}, permissions=["microphone"], accept_downloads=True
    )
    hosts: set[str] = set()
    page = context.new_page()
    page.on("request", lambda sent: hosts.add(urlsplit(sent.url).hostname or ""))
    page.goto(address)
    expect(page.get_by_role("button", name="Analyse")).to_be_visible(timeout=30_000)
    yield page
    keep_picture(page, request.node.name)
    context.close()
    assert hosts <= {"127.0.0.1", ""}  # "" is of data: and blob:


def keep_picture(page: Page, name: str) -> None:
    if folder := os.environ.get("HF_AST_SCREENSHOTS"):
        # Messages fade in
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True, animations="disabled")


def upload(page: Page, file: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(file)
    expect(page.get_by_label("Remove audio").or_(page.get_by_label("Clear"))).to_be_visible(timeout=20_000)


def analyse(page: Page) -> None:
    page.get_by_role("button", name="Analyse").click()


def labels_of_events(page: Page) -> str:
    return page.get_by_alt_text("Timeline: ").get_attribute("alt") or ""


def test_upload(page: Page, recording: Path, tmp_path: Path) -> None:
    upload(page, recording)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Window in seconds").fill("1")
    page.get_by_label("Window in seconds").blur()
    analyse(page)
    expect(page.get_by_alt_text("Timeline: ")).to_be_visible(timeout=ANALYSIS_MS)
    assert all(f"{word} at" in labels_of_events(page) for word in WORDS)
    for kind, read in (("JSON", read_json), ("CSV", read_csv)):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {kind}").click()
        assert download.value.suggested_filename == f"three words.{kind.lower()}"
        target = tmp_path / download.value.suggested_filename
        download.value.save_as(target)
        assert set(WORDS) <= set(read(target))
    follows_the_player(page)
    # On a phone, nothing but the pictures scrolls sideways
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def read_json(path: Path) -> list[str]:
    (data,) = json.loads(path.read_text())
    return [event["label"] for event in data["events"]]


def read_csv(path: Path) -> list[str]:
    return [row["label"] for row in csv.DictReader(path.open())]


def follows_the_player(page: Page) -> None:
    """At half of the recording, the line is in the middle of the axes; a click on the picture moves the player."""
    player = page.locator("audio.hf-ast-player")
    page.wait_for_function("document.querySelector('audio.hf-ast-player').duration > 0")
    player.evaluate("player => { player.currentTime = player.duration / 2 }")
    pictures = page.locator(".hf-ast-picture[data-start]")
    expect(pictures).to_have_count(2)
    for picture in pictures.all():
        line = picture.locator(".hf-ast-now")
        expect(line).to_be_visible()
        left, right = (float(picture.get_attribute(f"data-{side}") or "nan") for side in ("left", "right"))
        share = float(line.evaluate("line => parseFloat(line.style.left)")) / 100
        assert share == pytest.approx((left + right) / 2, abs=0.005)  # axes of frames end 12 ms before the recording
    picture = pictures.first
    width = picture.evaluate("picture => picture.clientWidth")
    left, right = (float(picture.get_attribute(f"data-{side}") or "nan") for side in ("left", "right"))
    quarter = 0.75 * left + 0.25 * right
    picture.click(position={"x": quarter * width, "y": 40})
    assert player.evaluate("player => player.currentTime") == pytest.approx(0.75, abs=0.02)  # a pixel is 6 ms


def test_microphone(page: Page) -> None:
    page.get_by_label("Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(4000)  # the recording repeats after 3 s
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_timeout(1500)
    analyse(page)
    expect(page.get_by_alt_text("Timeline: ")).to_be_visible(timeout=ANALYSIS_MS)
    assert any(f"{word} at" in labels_of_events(page) for word in WORDS)


def test_a_broken_file_is_an_error_without_a_result(page: Page, recording: Path, tmp_path: Path) -> None:
    upload(page, recording)
    analyse(page)
    expect(page.get_by_alt_text("Timeline: ")).to_be_visible(timeout=ANALYSIS_MS)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and nothing else that belongs to a recording")
    page.get_by_label("Clear").first.click()
    page.locator("input[type=file]").first.set_input_files(broken)
    page.wait_for_timeout(1500)
    analyse(page)
    expect(page.get_by_text("file='broken.wav' cannot be read")).to_be_visible(timeout=ANALYSIS_MS)
    expect(page.get_by_alt_text("Timeline: ")).to_be_hidden()


def test_without_a_recording_it_says_so(page: Page) -> None:
    analyse(page)
    expect(page.get_by_text("There is no recording yet")).to_be_visible(timeout=ANALYSIS_MS)
