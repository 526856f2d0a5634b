"""The trials of a command: a fault, what stands there then, and a second run without a fault."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import program
from .commands import Command
from .forks import TIMEOUT_S, Ended, count_operations, fork, fork_only, random_delay_s, read_only, strike_at, wait

# Statuses of the check: all is done, and not all is done
WHOLE, ABSENT = 0, 3
# What remains below the place of the output, and is meant to
MEANT = (".lock",)
Strike = Callable[[Path], Sequence[Ended]]


@dataclass
class Row:
    """Trials of one fault.

    Attributes:
        struck: Runs that the fault ended, or made fail.
        whole, absent, partial: States right after it.
        not_completed: Trials whose second run failed, or whose state is not whole after it.
        tracebacks: Runs that showed a traceback.
        left_over: Trials with temporary files beside the output after the second run.
        hung: Runs that did not end by themselves.
        statuses: Exit statuses with the fault, or minus the number of the signal.
        problems: What was wrong, in words.
    """

    command: str
    fault: str
    trials: int = 0
    struck: int = 0
    whole: int = 0
    absent: int = 0
    partial: int = 0
    not_completed: int = 0
    tracebacks: int = 0
    left_over: int = 0
    hung: int = 0
    elapsed_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.partial or self.not_completed or self.tracebacks or self.left_over or self.hung)


class Bench:
    """The trials of one command.

    Args:
        name, command: What is tried.
        folder: For the outputs.
        mount: A small disk, for those faults that take one.
        network: The proxy of a `Network`.
        chance: Source of the moments.
    """

    def __init__(self, name: str, command: Command, folder: Path, mount: Path, network: Any, chance: random.Random):
        self.name, self.command, self.folder, self.mount = name, command, folder, mount
        self.network, self.chance, self.number = network, chance, 0
        self.reference = self.new_output(folder / "reference")
        carried = network.carried()
        first = self.start(self.reference)
        self.num_carried = network.carried() - carried
        if first.status != 0:
            raise RuntimeError(f"{name} does not run at all:\n{first.log}")
        report, counted = folder / "operations", folder / "counted"
        second = self.start(self.new_output(counted), before=lambda: count_operations(counted, report))
        self.num_operations = len(report.read_bytes())
        self.duration_s = min(first.elapsed_s, second.elapsed_s)
        self.num_bytes = sum(file.stat().st_size for file in files_of(self.reference))

    def new_output(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        out = folder / f"out{self.command.suffix}"
        self.command.setup(out)
        return out

    def start(self, out: Path, **settings: Any) -> Ended:
        arguments = self.command.arguments(out)
        return fork(lambda: program.run(arguments), self.folder / "log", **settings)

    def faults(self, num_kills: int, num_interrupts: int) -> dict[str, Sequence[Strike]]:
        """Every fault with its trials. Half of the signals come at a random time, and half at operations on files."""
        found: dict[str, Sequence[Strike]] = {
            name: [lambda out, s=number: self.strike_at_time(out, s)] * ((count + 1) // 2)
            + [lambda out, s=number: self.strike_at_operation(out, s)] * (count // 2)
            for name, number, count in (
                ("SIGKILL", signal.SIGKILL, num_kills),
                ("SIGINT", signal.SIGINT, num_interrupts),
            )
        }
        found["two at once"] = [self.two_at_once] * 3
        found["full disk"] = [lambda out, s=share: self.full_disk(out, s) for share in (0.0, 0.2, 0.4, 0.9)]
        found["read-only target"] = [self.read_only]
        found["bare environment"] = [self.bare_environment]
        if not self.command.network:
            found["lost network"] = [lambda out: self.lost_network(out, "gone", 0)]
            return found
        found["lost network"] = [
            lambda out, m=manner: self.lost_network(out, m, self.chance.randrange(self.num_carried))
            for manner in ("once", "gone", "silent")
            for _ in range(3)
        ]
        if self.command.file_name:
            found["short body"] = [self.short_body] * 3
        return found

    def run(self, fault: str, strikes: Sequence[Strike]) -> Row:
        """Each trial of a fault in a new place."""
        began_at = time.monotonic()
        row = Row(self.name, fault, len(strikes))
        for strike in strikes:
            self.number += 1
            name = f"{self.name}-{self.number}" + ("-größer" if fault == "bare environment" else "")
            out = self.new_output((self.mount if "disk" in fault or "target" in fault else self.folder) / name)
            for one in strike(out):
                self.note_end(row, one)
            self.note_states(row, out)
            shutil.rmtree(out.parent)
        row.elapsed_s = time.monotonic() - began_at
        row.problems = list(dict.fromkeys(row.problems))
        return row

    def note_end(self, row: Row, ended: Ended) -> None:
        row.struck += ended.status != 0
        row.statuses[ended.status] += 1
        row.hung += ended.hung
        # What Python reports of an interrupted __del__ of another package is no end of a run
        if "Traceback" in ended.log.replace("Exception ignored in", "\0").partition("\0")[0]:
            row.tracebacks += 1
            row.problems.append(ended.log[-2500:])

    def note_states(self, row: Row, out: Path) -> None:
        """The state after the fault, and the second run."""
        state, problem = self.state(out)
        setattr(row, state, getattr(row, state) + 1)
        row.problems += [problem] if state == "partial" else []
        if not (state == "whole" and self.command.keeps):
            again = self.start(out)
            state, problem = self.state(out)
            if again.status != 0 or state != "whole":
                row.not_completed += 1
                row.problems.append(f"second run: {again.status} {state} {problem}\n{again.log[-2500:]}")
        left = [path.name for path in out.parent.rglob(".*") if path.suffix not in MEANT]
        row.left_over += bool(left)
        row.problems += [f"left over: {left}"] if left else []

    def state(self, out: Path) -> tuple[str, str]:
        """Whether the result is whole, absent or partial, and why it is partial."""
        if not out.exists():
            return "absent", ""
        check = self.command.check
        ended = fork(lambda: WHOLE if check(out, self.reference) else ABSENT, self.folder / "check-log")
        states = {WHOLE: "whole", ABSENT: "absent"}
        return states.get(ended.status, "partial"), ended.log[-2500:]

    def strike_at_time(self, out: Path, number: int) -> Sequence[Ended]:
        return [self.start(out, after_s=self.chance.uniform(0.02, self.duration_s), signal_number=number)]

    def strike_at_operation(self, out: Path, number: int) -> Sequence[Ended]:
        operation, delay_s = self.chance.randrange(self.num_operations), random_delay_s(self.chance)
        return [self.start(out, before=lambda: strike_at(out.parent, operation, delay_s, number))]

    def two_at_once(self, out: Path) -> Sequence[Ended]:
        arguments = self.command.arguments(out)
        logs = [self.folder / f"log-{number}" for number in range(2)]
        pids = []
        for log in logs:
            pids.append(fork_only(lambda: program.run(arguments), log))
            time.sleep(self.chance.uniform(0, 0.3 * self.duration_s))
        return [wait(pid, log) for pid, log in zip(pids, logs, strict=True)]

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
        with read_only(self.mount):
            return [self.start(out)]

    def lost_network(self, out: Path, manner: str, num_bytes: int) -> Sequence[Ended]:
        self.network.lose(num_bytes, manner)
        ended = self.start(out)
        self.network.restore()
        return [ended]

    def short_body(self, out: Path) -> Sequence[Ended]:
        """The server announces less than the file has, and sends that."""
        self.network.send_short(self.command.file_name, self.chance.randrange(self.num_carried // 4))
        ended = self.start(out)
        self.network.restore()
        return [ended]

    def bare_environment(self, out: Path) -> Sequence[Ended]:
        """No HOME, no TMPDIR, the C locale; the folder is called größer."""
        began_at = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", program.__name__, *self.command.arguments(out)],
            env={"PATH": os.defpath, "LC_ALL": "C", "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
            | self.network.environment(),
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        log = done.stderr.decode(errors="replace")
        if done.returncode:
            log = f"Traceback or error: {log}"
        return [Ended(done.returncode, time.monotonic() - began_at, log)]


def files_of(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
