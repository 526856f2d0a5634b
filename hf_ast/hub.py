"""Uploads to the Hub that end, with an error, when the network is silent."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import get_session

# Until the next bytes come, or can be sent. The Hub is silent for a while after the last of large files
TIMEOUT = httpx2.Timeout(300.0, connect=20.0)


@contextmanager
def upload_timeout() -> Iterator[None]:
    """Limit how long each request to the Hub waits; without a limit of its own, huggingface_hub waits for ever.

    Raises:
        httpx2.TimeoutException: Nothing moved for that long.
    """
    session = get_session()
    before = session.timeout
    session.timeout = TIMEOUT
    try:
        yield
    finally:
        session.timeout = before
