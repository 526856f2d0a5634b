"""Commands that are killed or get no room: what has its final name must be whole, and a second run completes.

Half of the kills come at a random time of the run, and half at or shortly after a random operation on files, where a
run leaves most if it leaves something. Every trial is a process of its own, forked from one that has imported all;
only those with another environment are programs started from nothing. A disk that is full or read-only is a tmpfs,
which takes the rights to mount one. Prints a table; the exit status is 1 if something was partial, or was not complete
after the second run. (`corpus_faults` does the same for `hf-ast extract`.)

    python -m tests.benchmarks.faults [--kills 20] [--seed 0] [--commands convert card ...]
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch

from hf_ast.cli import main as run_command
from tests.support.converted import SPEECH_COMMANDS, converted, tiny_ast
from tests.support.labelled import NOISE, TONES, waveform

TIMEOUT_S = 300.0
DISK_MB = 64
RECORDINGS = Path(__file__).parents[2] / "hf_ast" / "assets" / "ast-keywords" / "recordings"
FINAL = ("config.json", "metrics.json", "README.md", "results.png", "training.json")


class Command(NamedTuple):
    """A command on a small example.

    Args:
        arguments: Of the command, for an output and whether to resume.
        expect_whole: Raises an exception if the existing output is partial; `expect_whole(out, reference)`.
        result: What stands there once all is done, below the output; "" is the output itself.
        keeps: Whether a second run refuses an output that is whole.
        setup: Makes what must be in the place of the output before.
    """

    arguments: Callable[[Path, bool], list[str]]
    expect_whole: Callable[[Path, Path], None]
    suffix: str = ""
    result: str = ""
    keeps: bool = False
    setup: Callable[[Path], None] = lambda out: None


class Ended(NamedTuple):
    """A process: minus the number of its signal or its exit status, its duration, and what it wrote."""

    status: int
    elapsed_s: float
    log: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--commands", nargs="+", help="some of the commands only")
    args = parser.parse_args()
    import_all()
    print(
        f"{'command':12} {'fault':34} {'trials':>6} {'struck':>6} {'whole':>6} {'absent':>6} {'partial':>7} "
        f"{'second failed':>13} {'traceback':>9} {'left over':>9}"
    )
    is_good = True
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, disk(Path(folder) / "disk") as mount:
        commands = examples(Path(folder))
        for name in args.commands or commands:
            bench = Bench(name, commands[name], Path(folder) / "trials" / name, mount, random.Random(args.seed))
            is_good &= bench.run(args.kills)
    return 0 if is_good else 1


def import_all() -> None:
    """What the commands need, once for all trials; without starting a thread."""
    import matplotlib.image  # noqa: F401
    import transformers.trainer  # noqa: F401

    import conversion.cards
    import conversion.commands  # noqa: F401
    import hf_ast.export.folder
    import hf_ast.plotting
    import hf_ast.training.finetune
    import hf_ast.training.pretraining  # noqa: F401

    torch.set_num_threads(1)


class Bench:
    """The trials of one command."""

    def __init__(self, name: str, command: Command, folder: Path, mount: Path, chance: random.Random):
        self.name, self.command, self.folder, self.mount, self.chance = name, command, folder, mount, chance
        self.is_good, self.number = True, 0
        self.reference = self.new_output(folder / "reference")
        whole = self.start(self.reference)
        if whole.status != 0:
            raise RuntimeError(f"{name} does not run at all:\n{whole.log}")
        report = folder / "operations"
        again = self.start(self.new_output(folder / "counted"), before=lambda: count_operations(folder, report))
        self.num_operations = len(report.read_text())
        self.duration_s = min(whole.elapsed_s, again.elapsed_s)
        self.num_bytes = sum(file.stat().st_size for file in files_of(self.reference))
        print(f"{name}: {self.duration_s:.1f} s, {self.num_operations} operations, {self.num_bytes / 1e6:.1f} MB")

    def new_output(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        out = folder / f"out{self.command.suffix}"
        self.command.setup(out)
        return out

    def start(self, out: Path, resume: bool = False, **settings: Any) -> Ended:
        arguments = self.command.arguments(out, resume)
        return fork(lambda: run_command(arguments), self.folder / "log", **settings)

    def run(self, num_kills: int) -> bool:
        at_time = [lambda out: self.strike_at_time(out, signal.SIGKILL)] * ((num_kills + 1) // 2)
        self.trials("SIGKILL at a random time", at_time)
        self.trials("SIGKILL at an operation on files", [self.kill_at_operation] * (num_kills // 2))
        self.trials("SIGINT at a random time", [lambda out: self.strike_at_time(out, signal.SIGINT)] * 4)
        self.trials("two at once", [self.two_at_once])
        self.trials("full disk", [lambda out, s=share: self.full_disk(out, s) for share in (0.0, 0.4, 0.9)], True)
        self.trials("read-only target", [self.read_only], True)
        self.trials("bare environment, LC_ALL=C", [self.bare_environment])
        return self.is_good

    def trials(self, fault: str, strikes: Sequence[Callable[[Path], Sequence[Ended]]], on_disk: bool = False) -> None:
        """Each fault once in a new place, what stands there then, and the second run."""
        found: Counter[str] = Counter()
        problems = []
        for strike in strikes:
            self.number += 1
            name = f"trial-{self.number}" + ("-größer" if "LC_ALL" in fault else "")
            out = self.new_output((self.mount if on_disk else self.folder) / name)
            ended = strike(out)
            found["struck"] += any(one.status != 0 for one in ended)
            found["traceback"] += any("Traceback" in one.log for one in ended)
            problems += [one.log[-1500:] for one in ended if "Traceback" in one.log]
            state, problem = self.state(out)
            found[state] += 1
            problems += [problem] if state == "partial" else []
            if not (state == "whole" and self.command.keeps):
                again = self.start(out, resume=can_resume(out))
                state, problem = self.state(out)
                if again.status != 0 or state != "whole":
                    found["second failed"] += 1
                    problems.append(f"second run: {again.status} {state} {problem}\n{again.log[-1500:]}")
            beside = [path for path in out.parent.rglob(".*") if ".lock" not in path.name]
            found["left over"] += bool(beside)
            shutil.rmtree(out.parent)
        columns = ("struck", "whole", "absent", "partial", "second failed", "traceback", "left over")
        widths = (6, 6, 6, 7, 13, 9, 9)
        row = " ".join(f"{found[name]:{width}}" for name, width in zip(columns, widths, strict=True))
        print(f"{self.name:12} {fault:34} {len(strikes):6} {row}", flush=True)
        for problem in dict.fromkeys(problems):
            print("    " + problem.replace("\n", "\n    "), file=sys.stderr, flush=True)
        self.is_good &= not (found["partial"] or found["second failed"])

    def state(self, out: Path) -> tuple[str, str]:
        """Whether the result is whole, absent or partial, and why it is partial."""
        if not out.exists():
            return "absent", ""
        ended = fork(lambda: self.command.expect_whole(out, self.reference) or 0, self.folder / "check-log")
        if ended.status != 0:
            return "partial", f"{self.name}: partial: {ended.log[-1500:]}"
        return ("whole" if (out / self.command.result).exists() else "absent"), ""

    def strike_at_time(self, out: Path, number: int) -> Sequence[Ended]:
        return [self.start(out, after_s=self.chance.uniform(0.02, self.duration_s), signal_number=number)]

    def kill_at_operation(self, out: Path) -> Sequence[Ended]:
        # At once: before the operation. After it: a file is there, of which a part is written
        delay_s = self.chance.choice([0.0, 1e-4, 5e-4, 2e-3])
        operation = self.chance.randrange(self.num_operations)
        return [self.start(out, before=lambda: kill_at(out.parent, operation, delay_s))]

    def two_at_once(self, out: Path) -> Sequence[Ended]:
        arguments = self.command.arguments(out, False)
        logs = [self.folder / f"log-{number}" for number in range(2)]
        pids = [fork_only(lambda: run_command(arguments), log) for log in logs]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        return [Ended(status, 0.0, log.read_text()) for status, log in zip(statuses, logs, strict=True)]

    def full_disk(self, out: Path, share: float) -> Sequence[Ended]:
        """The disk has room for a share of the result."""
        filler = self.mount / "filler"
        with filler.open("wb") as stream:
            free = shutil.disk_usage(self.mount).free
            os.posix_fallocate(stream.fileno(), 0, max(4096, free - int(share * self.num_bytes)))
        ended = self.start(out)
        filler.unlink()
        return [ended]

    def read_only(self, out: Path) -> Sequence[Ended]:
        subprocess.run(["mount", "-o", "remount,ro", self.mount], check=True)
        ended = self.start(out)
        subprocess.run(["mount", "-o", "remount,rw", self.mount], check=True)
        return [ended]

    def bare_environment(self, out: Path) -> Sequence[Ended]:
        """No HOME, no TMPDIR, the C locale; the folder is called größer."""
        began_at = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "hf_ast.cli", *self.command.arguments(out, False)],
            env={"PATH": os.defpath, "LC_ALL": "C", "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        log = done.stderr.decode(errors="replace")
        if done.returncode:
            print(log[-1500:], file=sys.stderr)
        return [Ended(done.returncode, time.monotonic() - began_at, log)]


def can_resume(out: Path) -> bool:
    from hf_ast.training.output import saved_states

    return out.is_dir() and bool(saved_states(out))


def fork(
    function: Callable[[], int],
    log: Path,
    *,
    before: Callable[[], None] = lambda: None,
    after_s: float | None = None,
    signal_number: int = signal.SIGKILL,
) -> Ended:
    """Run a function in a process of its own, which gets a signal after some time."""
    began_at = time.monotonic()
    pid = fork_only(lambda: before() or function(), log)
    is_struck = False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        elapsed_s = time.monotonic() - began_at
        if ended:
            break
        if after_s is not None and not is_struck and elapsed_s > after_s:
            os.killpg(pid, signal_number)
            is_struck = True
        if elapsed_s > TIMEOUT_S:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)
    return Ended(os.waitstatus_to_exitcode(status), elapsed_s, log.read_text(errors="replace"))


def fork_only(function: Callable[[], int], log: Path) -> int:
    sys.stdout.flush()
    if pid := os.fork():
        with suppress(PermissionError):  # the child was faster
            os.setpgid(pid, pid)
        return pid
    os.setpgid(0, 0)
    status = 1
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        status = function()
    except KeyboardInterrupt:  # before the command has begun
        status = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def on_operations(folder: Path, action: Callable[[], None]) -> None:
    """Call a function before every operation that changes something below a folder, as Python tells."""
    changes = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in changes) and str(arguments[0]).startswith(str(folder)):
            action()

    sys.addaudithook(hear)


def count_operations(folder: Path, report: Path) -> None:
    stream = os.open(report, os.O_WRONLY | os.O_CREAT)
    on_operations(folder / "counted", lambda: os.write(stream, b"."))


def kill_at(folder: Path, operation: int, delay_s: float) -> None:
    count = 0

    def hear() -> None:
        nonlocal count
        count += 1
        if count == operation + 1:
            if not delay_s:
                os.kill(os.getpid(), signal.SIGKILL)
            signal.setitimer(signal.ITIMER_REAL, delay_s)  # SIGALRM without a handler ends the process like SIGKILL

    on_operations(folder, hear)


@contextmanager
def disk(mount: Path) -> Iterator[Path]:
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def files_of(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]


def examples(folder: Path) -> dict[str, Command]:
    """The commands, each on the smallest example that is one of its kind."""
    recordings = [str(path) for path in sorted(RECORDINGS.glob("*.flac"))[:3]]
    labelled, official = folder / "labelled", folder / "official"
    rng = np.random.default_rng(0)
    for label in (TONES, NOISE):
        (labelled / label).mkdir(parents=True)
        for number in range(6):
            soundfile.write(labelled / label / f"{number}.wav", waveform(label, 16000, 0.5, rng), 16000)
    official.mkdir()
    fork(lambda: bool(converted(SPEECH_COMMANDS, official)) - 1, folder / "log")
    made, file = official / SPEECH_COMMANDS, official / tiny_ast()[0].file_name
    changes = changed_settings()
    short = ["--duration", "0.64"]
    training = ["--batch-size", "4", "--num-workers", "0"]

    def resumed(arguments: list[str], resume: bool) -> list[str]:
        return [*arguments, "--resume"] if resume else arguments

    return {
        "convert": Command(
            lambda out, _: ["convert", str(file), "--as", SPEECH_COMMANDS, "--out", str(out), *changes], expect_folder
        ),
        "verify": Command(
            lambda out, _: ["verify", str(out), "--source", str(file)],
            expect_verified,
            setup=lambda out: bool(shutil.copytree(made, out)) or None,
        ),
        "card": Command(
            lambda out, _: ["card", str(out)],
            expect_card,
            result="README.md",
            setup=lambda out: bool(shutil.copytree(made, out)) or None,
        ),
        "export": Command(
            lambda out, _: ["export", "--to", "torch-export", "--out", str(out)], expect_export, keeps=True
        ),
        "embed": Command(
            lambda out, _: ["embed", *recordings, "--out", str(out)], expect_arrays, suffix=".npz", keeps=True
        ),
        "plot": Command(
            lambda out, _: ["plot", "spectrogram", recordings[0], "--out", str(out)],
            expect_picture,
            suffix=".png",
            keeps=True,
        ),
        "finetune": Command(
            lambda out, resume: resumed(
                ["finetune", str(labelled), "--out", str(out), "--epochs", "3", *training], resume
            ),
            expect_training,
            result="README.md",
        ),
        "pretrain": Command(
            lambda out, resume: resumed(
                ["pretrain", str(labelled), "--out", str(out), "--steps", "4", "--eval-every", "2", *short, *training],
                resume,
            ),
            expect_training,
            result="config.json",
        ),
    }


def changed_settings() -> list[str]:
    """The tiny file in the terms of `hf-ast convert --set`."""
    checkpoint = tiny_ast()[0]
    fields = dict(checkpoint.config) | {name: checkpoint.front_end[name] for name in ("num_mel_bins", "max_length")}
    return [part for name, value in fields.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def expect_folder(out: Path, reference: Path) -> None:
    from conversion.folders import changed_files, read_provenance

    assert not changed_files(out, read_provenance(out))
    open_model(out)


def expect_verified(out: Path, reference: Path) -> None:
    from conversion.folders import changed_files, read_provenance

    assert not changed_files(out, read_provenance(out))


def expect_card(out: Path, reference: Path) -> None:
    """The card is as the whole run wrote it, or there is none."""
    card = out / "README.md"
    assert not card.exists() or len(card.read_text(encoding="utf-8")) > 1000, "an empty or cut card"
    assert not card.exists() or card.read_text(encoding="utf-8").rstrip().endswith(
        (reference / "README.md").read_text(encoding="utf-8").rstrip()[-200:]
    ), "a cut card"


def expect_export(out: Path, reference: Path) -> None:
    assert {path.name for path in out.iterdir()} == {path.name for path in reference.iterdir()}
    json.loads((out / "metadata.json").read_text(encoding="utf-8"))
    torch.export.load(next(out.glob("*.pt2")))


def expect_arrays(out: Path, reference: Path) -> None:
    with np.load(out) as found, np.load(reference) as expected:
        assert set(found["path"]) <= set(expected["path"])  # those that were finished before Ctrl-C
        rows = np.isin(expected["path"], found["path"])
        np.testing.assert_allclose(found["embedding"], expected["embedding"][rows], atol=1e-5)


def expect_picture(out: Path, reference: Path) -> None:
    from matplotlib.image import imread

    np.testing.assert_array_equal(imread(out), imread(reference))


def expect_training(out: Path, reference: Path) -> None:
    """Whatever has its final name is whole: a model opens, and is the one of the whole run."""
    from matplotlib.image import imread

    for name in ("training.json", "metrics.json"):
        if (out / name).exists():
            json.loads((out / name).read_text(encoding="utf-8"))
    if (out / "results.png").exists():
        imread(out / "results.png")
    if (out / "README.md").exists():
        expect_card(out, reference)
        assert (out / "config.json").exists()
    if (out / "config.json").exists():
        missing = {path.name for path in reference.iterdir()} - {path.name for path in out.iterdir()}
        assert missing <= {"metrics.json", "results.png", "README.md"}, f"a model without {sorted(missing)}"
        for name, tensor in open_model(out).items():
            torch.testing.assert_close(tensor, open_model(reference)[name], atol=1e-4, rtol=1e-3)


def open_model(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoConfig

    import hf_ast
    from hf_ast.inference.loading import load_pretraining

    architecture = AutoConfig.from_pretrained(folder).architectures[0]
    load = load_pretraining if "PreTraining" in architecture else hf_ast.load_classifier
    return load(str(folder))[0].state_dict()


if __name__ == "__main__":
    sys.exit(main())
