"""Processes that are forked, watched and killed, and a disk for them."""

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT_S = 300.0
DISK_MB = 512  # for two saved states of the smallest pretraining, and its result
INTERRUPTED = 130
Before = Callable[[], None]


class Ended(NamedTuple):
    """A process: minus the number of its signal or its exit status, its duration, what it wrote, whether it hung."""

    status: int
    elapsed_s: float
    log: str
    hung: bool = False


def fork(
    function: Callable[[], int],
    log: Path,
    *,
    before: Before = lambda: None,
    after_s: float | None = None,
    signal_number: int = signal.SIGKILL,
) -> Ended:
    """Run a function in a process of its own, which gets a signal after some time."""
    return wait(fork_only(lambda: before() or function(), log), log, after_s=after_s, signal_number=signal_number)


def fork_only(function: Callable[[], int], log: Path) -> int:
    """Start a function in a process and a process group of its own; its process id."""
    sys.stdout.flush()
    # An interrupt before or after the function must not run the clean-up of this program in the child
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = _run_in_child(function, log)
        finally:
            os._exit(status)
    with suppress(PermissionError):  # the child was faster
        os.setpgid(pid, pid)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return pid


def _run_in_child(function: Callable[[], int], log: Path) -> int:
    os.setpgid(0, 0)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        status = function()
    except KeyboardInterrupt:  # before the command has begun
        status = INTERRUPTED
    except BaseException:
        traceback.print_exc()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGALRM})
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def wait(pid: int, log: Path, *, after_s: float | None = None, signal_number: int = signal.SIGKILL) -> Ended:
    """Wait for a process, and send it a signal after some time."""
    began_at = time.monotonic()
    is_struck = hung = False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        elapsed_s = time.monotonic() - began_at
        if ended:
            return Ended(os.waitstatus_to_exitcode(status), elapsed_s, log.read_text(errors="replace"), hung)
        if after_s is not None and not is_struck and elapsed_s > after_s:
            os.killpg(pid, signal_number)
            is_struck = True
        if elapsed_s > TIMEOUT_S:
            os.killpg(pid, signal.SIGKILL)
            hung = True
        time.sleep(0.002)


def on_operations(folder: Path, action: Callable[[], None]) -> None:
    """Call a function before every operation that changes something below a folder, as Python tells."""
    changes = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in changes) and str(arguments[0]).startswith(str(folder)):
            action()

    sys.addaudithook(hear)


def count_operations(folder: Path, report: Path) -> None:
    """Write one byte into a file for every operation."""
    stream = os.open(report, os.O_WRONLY | os.O_CREAT)
    on_operations(folder, lambda: os.write(stream, b"."))


def strike_at(folder: Path, operation: int, delay_s: float, signal_number: int) -> None:
    """Send this process a signal right before one of its operations, or some time after it has begun."""
    count = 0

    def hear() -> None:
        nonlocal count
        count += 1
        if count != operation + 1:
            return
        if not delay_s:
            os.kill(os.getpid(), signal_number)
            return
        # SIGALRM without a handler ends the process like SIGKILL
        signal.signal(signal.SIGALRM, signal.default_int_handler if signal_number == signal.SIGINT else signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, delay_s)

    on_operations(folder, hear)


def random_delay_s(chance: random.Random) -> float:
    """At once is before the operation. Some time later a file is there, of which a part is written."""
    return chance.choice([0.0, 1e-4, 5e-4, 2e-3])


@contextmanager
def disk(mount: Path) -> Iterator[Path]:
    """A small disk of its own."""
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


@contextmanager
def read_only(mount: Path) -> Iterator[None]:
    """Refuse all writing to a disk."""
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", mount], check=True)
