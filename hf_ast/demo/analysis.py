"""What the page shows of a recording: figures, labels and events."""

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hf_ast
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.data import audio
from hf_ast.inference.event_formats import CSV_HEADER, Heard, as_data, csv_lines, delimited
from hf_ast.inference.events import DEFAULT_THRESHOLD
from hf_ast.inference.features import model_window
from hf_ast.inference.tagging import Tagging
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.plotting import plot_attention, plot_spectrogram, plot_timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel

# The spectrogram of half an hour at 128 mel bins takes about 100 MB
MAX_DURATION_S = 1800.0


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a model hears in a recording, ready to be shown.

    Args:
        name: Name of the recording.
        tagging: Scores and events.
        spectrogram: Spectrogram of the whole recording.
        timeline: Scores over time, and events.
        attention: Where the model looks in one window.
        attended_s: Start and end of that window: the one with the largest score of the recording's first label.
    """

    name: str
    tagging: Tagging
    spectrogram: "Figure"
    timeline: "Figure"
    attention: "Figure"
    attended_s: tuple[float, float]

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write the events to a folder, as `hf-ast tag --json` and `--format csv` print them: JSON file, CSV file."""
        tagging, stem = self.tagging, Path(self.name).stem
        json_file, csv_file = folder / f"{stem}.json", folder / f"{stem}.csv"
        heard = Heard(self.name, tagging.duration_s, tagging.events)
        json_file.write_text(json.dumps([as_data(heard)], indent=2) + "\n", encoding="utf-8")
        lines = (delimited(CSV_HEADER), *csv_lines(heard))
        csv_file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return json_file, csv_file


def analyse(
    path: str | os.PathLike[str],
    model: str | os.PathLike[str] = EMBEDDED_MODEL,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    window_s: float | None = None,
    overlap: float = 0.0,
    batch_size: int | None = None,
    **loading: Any,
) -> Analysis:
    """Find out what a model hears in a recording, when, and where in the spectrogram it looks.

    Args:
        path: Audio file of at most half an hour.
        model: As in `hf_ast.load_classifier`; an AST, SSAST or PaSST. The last model stays loaded.
        threshold: Score of a label above which there is an event.
        window_s: Length of a window, in seconds; what the model hears at once if None.
        overlap: Fraction of a window that overlaps with the next one, in [0, 1).
        batch_size: As in `hf_ast.tag`.
        loading: `device`, `dtype`, `revision` and `token` of `hf_ast.load_classifier`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a recording, or is empty, too short or too long; a setting is out of range; or the
            model is unknown, has no classifier, or is of another family.
        OSError: The model cannot be downloaded or read.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap={overlap} must be at least 0 and less than 1.")
    name = Path(path).name
    if audio.duration(path) > MAX_DURATION_S:
        raise ValueError(
            f"file={name!r} is longer than {MAX_DURATION_S / 60:g} minutes, too long for this page; "
            "`hf-ast tag FILE` takes recordings of any length."
        )
    classifier, feature_extractor = load(os.fspath(model), **loading)
    rate = feature_extractor.sampling_rate
    waveform, _ = audio.read(path, rate)
    tagging = hf_ast.tag(
        classifier,
        feature_extractor,
        waveform,
        window_s=window_s,
        hop_s=(1 - overlap) * (model_window(feature_extractor) / rate if window_s is None else window_s),
        threshold=threshold,
        batch_size=batch_size,
    )
    device = classifier.device
    spectrogram = feature_extractor(
        waveform, rate, return_tensors="pt", padding=False, truncation=False, device=device
    )
    first_label = int(tagging.scores.argmax())
    start_s, end_s = tagging.window_times_s[tagging.window_scores[:, first_label].argmax()].tolist()
    clip = waveform[round(start_s * rate) : round(end_s * rate)]
    return Analysis(
        name=name,
        tagging=tagging,
        spectrogram=plot_spectrogram(feature_extractor, spectrogram["input_values"]),
        timeline=plot_timeline(tagging),
        attention=plot_attention(
            classifier,
            feature_extractor,
            feature_extractor(clip, rate, return_tensors="pt", device=device)["input_values"],
            start_s=start_s,
            duration_s=end_s - start_s,
        ),
        attended_s=(start_s, end_s),
    )


@lru_cache(maxsize=1)
def load(model: str, **loading: Any) -> "tuple[PreTrainedModel, SpectrogramFeatureExtractor]":
    """Load a model and its feature extractor as `hf_ast.load_classifier` does, and keep the last one."""
    classifier, feature_extractor = hf_ast.load_classifier(model, frames=True, **loading)
    if not isinstance(feature_extractor, SpectrogramFeatureExtractor):
        raise ValueError(
            f"model={model!r} is a {type(classifier).__name__}; the pictures need an AST, SSAST or PaSST."
        )
    return classifier, feature_extractor
