"""The page: a Gradio app around `analyse`."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import ModuleType
from typing import Any

import gradio

from hf_ast.assets import EMBEDDED_MODEL, RECORDINGS
from hf_ast.checkpoints import classifier_names, resolve_model
from hf_ast.inference.devices import find_device, find_dtype
from hf_ast.inference.events import DEFAULT_THRESHOLD

from .analysis import Analysis, analyse
from .pictures import CSS, PLAYBACK, picture, player, time_axis

TITLE = "Audio spectrogram transformers"
INTRODUCTION = f"""# {TITLE}
What does a model hear in a recording, when, and where in the spectrogram does it look?
"""
MODEL_INFO = (
    "The keyword model knows ten words and comes with the package. The others are downloaded and converted on first "
    "use."
)
PLAYED = "While it plays, a line shows the position in both pictures; click on a picture to move there."
OVERLAPS = {"none": 0.0, "half": 0.5, "three quarters": 0.75}
EVENT_HEADERS = ["label", "start, s", "end, s", "peak"]  # short, so that a phone shows all
EXAMPLES = ("yes", "stop", "up")
NUM_LABELS = 5
MAX_FILE_SIZE = "500mb"
# Every hour, uploads that are older than a day are removed
DELETE_CACHE_S = (3600, 86400)


def launch(
    model: str = str(EMBEDDED_MODEL),
    *,
    host: str | None = None,
    port: int | None = None,
    open_browser: bool = False,
    device: str | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Any:
    """Serve the page in the background; nothing is sent anywhere else.

    Args:
        model: The model that is chosen at first, as in `hf_ast.load_classifier`.
        host: Address on which to listen; this machine only if None, or what `GRADIO_SERVER_NAME` says, as on Spaces.
        port: Port on which to listen; the first free one from 7860 on if None, or what `GRADIO_SERVER_PORT` says.
        open_browser: Whether to show the page in a browser.
        device, dtype: As in `hf_ast.load_classifier`, for all models; the accelerator if there is one if None.
        batch_size: As in `hf_ast.tag`.
        revision, token: As in `hf_ast.load_classifier`, for the model that is chosen at first.

    Returns:
        The `gradio.Blocks`: `local_url` is its address, `block_thread()` waits for Ctrl-C, `close()` ends it.

    Raises:
        OSError: The port is taken.
        ValueError: The model is unknown, or there is no such device.
    """
    running = {"device": find_device(device), "dtype": find_dtype(dtype), "batch_size": batch_size}
    page = build(model, revision=revision, token=token, **running)
    page.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        footer_links=[],
        max_file_size=MAX_FILE_SIZE,
        css=CSS,
        # The fonts of the system; the default ones come from a server
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )
    return page


def build(
    model: str = str(EMBEDDED_MODEL), *, revision: str | None = None, token: str | bool | None = None, **running: Any
) -> Any:
    """Build the page as `gradio.Blocks`, not yet served; arguments as in `launch`."""
    of_hub = {model: {"revision": revision, "token": token}}
    downloads = TemporaryDirectory(prefix="hf-ast-demo-")
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=DELETE_CACHE_S) as page:
        gradio.Markdown(INTRODUCTION)
        with gradio.Row():
            with gradio.Column():
                recording = gradio.Audio(
                    type="filepath", sources=["upload", "microphone"], label="Recording", buttons=[]
                )
                gradio.Examples([[str(RECORDINGS / f"{word}.flac")] for word in EXAMPLES], recording, label="Examples")
            with gradio.Column():
                choice = gradio.Dropdown(
                    model_choices(model, revision, token), value=model, label="Model", info=MODEL_INFO
                )
                with gradio.Accordion("Settings", open=False):
                    threshold = gradio.Slider(0.05, 1, DEFAULT_THRESHOLD, step=0.05, label="Score of an event")
                    window = gradio.Number(
                        None, label="Window in seconds", info="Empty: what the model hears at once", minimum=0
                    )
                    overlap = gradio.Radio([*OVERLAPS.items()], value=0.0, label="Overlap of windows")
                run = gradio.Button("Analyse", variant="primary")
        with gradio.Column(visible=False) as results:
            with gradio.Row():
                labels = gradio.Label(num_top_classes=NUM_LABELS, label="Labels of the whole recording")
                with gradio.Column():
                    events = gradio.Dataframe(
                        headers=EVENT_HEADERS, datatype=["str", "number", "number", "number"], label="Events",
                        interactive=False, max_height=260,
                    )  # fmt: skip
                    with gradio.Row():
                        files = [gradio.DownloadButton(f"Download {kind}", size="sm") for kind in ("JSON", "CSV")]
            gradio.Markdown(f"## When it is heard\n{PLAYED}")
            sound = gradio.HTML(js_on_load=PLAYBACK)
            looks = gradio.Markdown()
            attention = gradio.HTML()
        # Hidden first, so that the results of an earlier recording do not stay if this one fails
        run.click(lambda: gradio.Column(visible=False), None, results, queue=False, show_progress="hidden").then(
            handler(gradio, Path(downloads.name), of_hub, **running),
            [recording, choice, threshold, window, overlap],
            [results, labels, events, *files, sound, looks, attention],
            api_name="analyse",
        )
    page.downloads = downloads  # which are removed with the page
    return page


def handler(
    gradio: ModuleType, folder: Path, of_hub: dict[str, dict[str, Any]] | None = None, **running: Any
) -> Callable[..., tuple[Any, ...]]:
    """Return the function that fills the page; files for download go to new folders in `folder`.

    `of_hub` has the revision and the token of models, `running` has the other settings of `analyse`, for all of them.
    """

    def fill(
        path: str | None, model: str, threshold: float, window_s: float | None, overlap: float
    ) -> tuple[Any, ...]:
        if path is None:
            raise gradio.Error("There is no recording yet; drop a file, or record one.", print_exception=False)
        try:
            analysis = analyse(
                path,
                model,
                threshold=threshold,
                window_s=window_s or None,
                overlap=overlap,
                **running | (of_hub or {}).get(model, {}),
            )
        except (ValueError, OSError, ImportError) as error:
            # The path at which the page keeps the file does not help the user
            message = str(error).replace(path, Path(path).name)
            raise gradio.Error(message, duration=None, print_exception=False) from error
        json_file, csv_file = analysis.save(Path(mkdtemp(dir=folder)))
        start_s, end_s = analysis.attended_s
        first = analysis.tagging.top(1)[0].label
        return (
            gradio.Column(visible=True),
            dict(analysis.tagging.top(NUM_LABELS)),
            event_rows(analysis),
            str(json_file),
            str(csv_file),
            sound_html(analysis, path),
            f"## Where it looks\nFrom {start_s:.2f} to {end_s:.2f} s, the window with the largest score of *{first}*.",
            picture(analysis.attention, f"Attention of the model in the spectrogram from {start_s:.2f} s on"),
        )

    return fill


def event_rows(analysis: Analysis) -> list[list[str | float]]:
    """Return the rows of the table of events, as `EVENT_HEADERS` names them."""
    return [
        [event.label, round(event.start_s, 2), round(event.end_s, 2), round(event.peak, 3)]
        for event in analysis.tagging.events
    ]


def sound_html(analysis: Analysis, path: str) -> str:
    """Return the player and the pictures that follow it."""
    heard = ", ".join(f"{event.label} at {event.start_s:.2f} s" for event in analysis.tagging.events) or "no event"
    pictures = ((analysis.timeline, f"Timeline: {heard}"), (analysis.spectrogram, f"Spectrogram of {analysis.name}"))
    return player(path) + "".join(picture(figure, text, time_axis(figure)) for figure, text in pictures)


def model_choices(model: str, revision: str | None = None, token: str | bool | None = None) -> list[tuple[str, str]]:
    """Return the models to choose from, as names and values: the embedded one, a given one, and released classifiers.

    Raises:
        ValueError: The given model is unknown (`resolve_model`).
    """
    released = classifier_names()
    choices = [("Keywords (embedded)", str(EMBEDDED_MODEL)), *((name, name) for name in released)]
    if model not in dict(choices).values():
        resolve_model(model, revision=revision, token=token)
        choices.insert(0, (Path(model).name if Path(model).is_dir() else model, model))
    return choices
