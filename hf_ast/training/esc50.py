"""ESC-50 and its protocol: five folds, each the test of a model that was trained on the other four."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_ast.data.entries import Entry
from hf_ast.data.labelled import LabelledData, labelled_data, read_data
from hf_ast.data.sources import find_source
from hf_ast.data.splitting import TEST, TRAIN
from hf_ast.inference.loading import load_classifier

from .evaluate import Evaluation, evaluate

FOLDS = ("1", "2", "3", "4", "5")
# Fold, clip on Freesound, take, number of the class
FILE_NAME = re.compile(r"([1-5])-\d+-[A-Z]-(\d+)\.\w+")


def read_esc50(source: str | Path, **settings: Any) -> LabelledData:
    """Find the recordings of ESC-50, with their folds as groups.

    Args:
        source: The folder of the release, its `meta/esc50.csv` or another manifest with the columns `filename`, `fold`
            and `category`, or a folder with files that are named as in the release; then the classes have numbers
            instead of names.
        settings: `decode`, `min_duration_s` and `progress`, as in `read_data`.

    Raises:
        ValueError: There are no recordings of that kind, or a fold is missing.
    """
    path = Path(source)
    manifest = path / "meta" / "esc50.csv" if path.is_dir() else path
    if manifest.is_file():
        beside = manifest.parents[1] / "audio" if manifest.parent.name == "meta" else manifest.parent
        data = read_data(
            manifest,
            label_column="category",
            group_column="fold",
            audio_folder=beside,
            validation_fraction=0.0,
            **settings,
        )
    else:
        place = find_source(source)
        entries = []
        for index, name in enumerate(place.names()):
            if match := FILE_NAME.fullmatch(Path(name).name):
                entries.append(Entry(name=name, index=index, labels=(f"{int(match[2]):02d}",), group=match[1]))
        data = labelled_data(place, entries, validation_fraction=0.0, **settings)
    found = {clip.group for clip in data.clips}
    if found != set(FOLDS):
        raise ValueError(
            f"source={str(source)!r} has the folds {sorted(map(str, found))}, but ESC-50 has {list(FOLDS)}; give the "
            "folder of its release."
        )
    return data


def evaluate_folds(
    data: LabelledData,
    model: str,
    *,
    train: Callable[[LabelledData, str], Any] | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    **loading: Any,
) -> list[Evaluation]:
    """Evaluate on each of the five folds.

    Args:
        data: What `read_esc50` returns.
        model: A model with "{fold}" in its name, which stands for the number of the fold that it was not trained on;
            or, without it, a model that `train` starts from.
        train: Gets the data and the number of the held-out fold, fine-tunes on the training recordings, and returns
            the model and its feature extractor. Nothing is chosen on the held-out fold: the last weights count.
        batch_size, progress: As in `evaluate`.
        loading: `device`, `dtype`, `revision` and `token` of `hf_ast.load_classifier`, for models that are not trained
            here.

    Raises:
        ValueError: `model` has no "{fold}" in its name, and `train` is None.
    """
    if "{fold}" not in model and train is None:
        raise ValueError(
            f"model={model!r} would be evaluated on recordings that it was trained on; give five models with {{fold}} "
            "in their name, or a folder for the five that are to be trained."
        )
    results = []
    for fold in FOLDS:
        split = data.with_splits({other: TEST if other == fold else TRAIN for other in FOLDS})
        if train is None:
            network, feature_extractor = load_classifier(model.replace("{fold}", fold), **loading)
        else:
            network, feature_extractor = train(split, fold)
        test = replace(split, clips=split.of(TEST))
        results.append(evaluate(network, feature_extractor, test, batch_size=batch_size, progress=progress))
    return results
