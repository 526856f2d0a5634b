"""Work ahead in a thread beside the model's."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

_END = object()


def prefetched(items: Iterable[Item], num_ahead: int = 2) -> Generator[Item, None, None]:
    """The same items, made in a thread while the last ones are in use; an error there is raised here.

    Args:
        items: What takes time to make, such as features; a generator is closed at the end.
        num_ahead: Items that may wait.
    """
    made: queue.Queue[object] = queue.Queue(num_ahead)
    stop = threading.Event()

    def put(item: object) -> bool:
        """Hand an item over, unless nobody takes it any more."""
        while not stop.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    break
        except BaseException as error:
            put(error)
        else:
            put(_END)
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    thread = threading.Thread(target=make, name="prefetched", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
