"""Functions in processes of their own, which may be killed or get no room on the disk."""

import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import torch


def start(target: Callable[..., object], *arguments: object) -> BaseProcess:
    """Forked, as importing transformers takes seconds."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(target, arguments))
    process.start()
    return process


def exit_code(process: BaseProcess) -> int:
    """0 if the function returned, 1 if it raised, minus the number of the signal that killed it."""
    process.join(timeout=120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def limit_file_size(num_bytes: int) -> None:
    """Make the disk as good as full.

    A real disk of limited size takes rights that a test has not. A limit on the size of files is the same for the
    program: the system writes a part, and then refuses to write more ("File too large").
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def _run(target: Callable[..., object], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)  # other threads do not survive a fork
    target(*arguments)
