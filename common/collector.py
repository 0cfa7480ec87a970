"""Python's collector of garbage, out of the way while millions of objects come that all stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep Python from walking the new objects of the block again and again, and afterwards.

    Processes that are forked later share them: a collector that walks an object copies its page.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
