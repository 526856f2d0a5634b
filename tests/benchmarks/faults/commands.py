"""The commands under trial, each on the smallest example that is one of its kind."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch

from hf_ast.assets import RECORDINGS
from hf_ast.training.output import saved_states
from tests.support.converted import SPEECH_COMMANDS, tiny_ast
from tests.support.labelled import NOISE, TONES, waveform

from . import checks, program
from .forks import fork

NUM_CLIPS = 6
TRAINING = ("--batch-size", "4", "--num-workers", "0")


class Command(NamedTuple):
    """A command on a small example.

    Args:
        arguments: Of the command, for an output.
        check: One of `checks`.
        suffix: Of the output's name.
        keeps: Whether a second run refuses an output that is whole.
        setup: Makes what must be in the place of the output before.
        network: Whether it needs the network.
        file_name: Of the file that it downloads.
    """

    arguments: Callable[[Path], Sequence[str]]
    check: Callable[[Path, Path], bool]
    suffix: str = ""
    keeps: bool = False
    setup: Callable[[Path], object] = lambda out: None
    network: bool = False
    file_name: str = ""


def examples(folder: Path, network: Any) -> dict[str, Command]:
    """The commands by their names; what they read is made in a folder, or offered by the network."""
    recordings = [str(path) for path in sorted(RECORDINGS.glob("*.flac"))[:3]]
    labelled = write_labelled(folder / "labelled")
    file = folder / tiny_ast()[0].file_name
    torch.save(tiny_ast()[1], file)
    url = network.offer(file)
    made, verified = folder / "made", folder / "verified"
    conversion = ["convert", str(file), "--as", SPEECH_COMMANDS, *changed_settings()]
    prepare([*conversion, "--out", str(made)])
    (made / "README.md").unlink()
    prepare([*conversion, "--out", str(verified), "--verify"])
    downloads = {"network": True, "file_name": file.name}
    return {
        "download": Command(lambda out: ["download", url, str(out)], checks.download, **downloads),
        "get_checkpoint": Command(lambda out: ["get_checkpoint", url, str(out)], checks.checkpoint, **downloads),
        "convert": Command(lambda out: [*conversion, "--out", str(out)], checks.converted),
        "verify": Command(
            lambda out: ["verify", str(out), "--source", str(file)],
            checks.verified,
            setup=lambda out: shutil.copytree(made, out),
        ),
        "card": Command(lambda out: ["card", str(out)], checks.card, setup=lambda out: shutil.copytree(made, out)),
        "publish": Command(
            lambda out: ["publish", str(out), "--repo", checks.repository_of(out)],
            checks.published,
            setup=lambda out: shutil.copytree(verified, out),
            network=True,
        ),
        "export": Command(
            lambda out: ["export", "--to", "torch-export", "--out", str(out)], checks.exported, keeps=True
        ),
        "embed": Command(
            lambda out: ["embed", *recordings, "--out", str(out)], checks.arrays, suffix=".npz", keeps=True
        ),
        "plot": Command(
            lambda out: ["plot", "spectrogram", recordings[0], "--out", str(out)],
            checks.picture,
            suffix=".png",
            keeps=True,
        ),
        "extract": Command(
            lambda out: [
                *("extract", str(labelled), "--out", str(out), "--what", "both"),
                *("--files-per-shard", "2", "--num-workers", "0"),
            ],
            checks.corpus,
        ),
        "finetune": Command(
            lambda out: resumed(["finetune", str(labelled), "--out", str(out), "--epochs", "3", *TRAINING], out),
            checks.finetuned,
        ),
        "pretrain": Command(
            lambda out: resumed(
                [
                    *("pretrain", str(labelled), "--out", str(out), "--steps", "4", "--eval-every", "2"),
                    *("--duration", "0.64", *TRAINING),
                ],
                out,
            ),
            checks.trained,
        ),
    }


def write_labelled(folder: Path) -> Path:
    """Two classes of short clips, each in a folder."""
    rng = np.random.default_rng(0)
    for label in (TONES, NOISE):
        (folder / label).mkdir(parents=True)
        for number in range(NUM_CLIPS):
            soundfile.write(folder / label / f"{number}.wav", waveform(label, 16000, 0.5, rng), 16000)
    return folder


def changed_settings() -> list[str]:
    """The tiny file in the terms of `hf-ast convert --set`."""
    checkpoint = tiny_ast()[0]
    fields = dict(checkpoint.config) | {name: checkpoint.front_end[name] for name in ("num_mel_bins", "max_length")}
    return [part for name, value in fields.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def prepare(arguments: Sequence[str]) -> None:
    """Run a command whose output the trials begin with."""
    log = Path(arguments[arguments.index("--out") + 1]).with_suffix(".log")
    ended = fork(lambda: program.run(arguments), log)
    if ended.status != 0:
        raise RuntimeError(f"{' '.join(arguments)}\n{ended.log}")


def resumed(arguments: list[str], out: Path) -> list[str]:
    """The arguments of a training, which continues if there are states."""
    return [*arguments, "--resume"] if saved_states(out) else arguments
