"""Fixtures for the commands."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def terminal_signals() -> Iterator[None]:
    """Ctrl-C interrupts, as in a terminal; a shell that runs the tests in the background has switched it off."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
