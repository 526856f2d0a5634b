"""Uploads to the Hub that fail when the network is silent, instead of waiting for ever."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import get_session

# Longest wait until the next bytes come or can be sent; after the last of large files, the Hub is silent for a while
TIMEOUT = httpx2.Timeout(300.0, connect=20.0)


@contextmanager
def upload_timeout() -> Iterator[None]:
    """Limit how long each request to the Hub waits; without a limit of its own, huggingface_hub waits for ever.

    Raises:
        httpx2.TimeoutException: No bytes moved for that long.
    """
    session = get_session()
    before = session.timeout
    session.timeout = TIMEOUT
    try:
        yield
    finally:
        session.timeout = before
