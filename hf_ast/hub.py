"""What talking to the Hub takes, whichever client huggingface_hub has: httpx before its version 2, httpx2 since."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Longest waits in seconds: to connect, to receive, to send, and for a free connection; both clients
# take a tuple. After the last of large files, the Hub is silent for a while
TIMEOUT = (20.0, 300.0, 300.0, 300.0)


@contextmanager
def upload_timeout() -> Iterator[None]:
    """Limit how long each request to the Hub waits; without a limit of its own, huggingface_hub waits for ever.

    Raises:
        httpx2.TimeoutException, httpx.TimeoutException: No bytes moved for that long.
    """
    from huggingface_hub import get_session

    session = get_session()
    before = session.timeout
    session.timeout = TIMEOUT
    try:
        yield
    finally:
        session.timeout = before


def network_errors() -> tuple[type[Exception], ...]:
    """Base class of the errors of each client that is imported; one that is not has raised none."""
    return tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)
