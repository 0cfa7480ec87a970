"""Work in threads, a few items ahead of who takes the results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], num_threads: int) -> Iterator[R]:
    """Map in threads; yield the results in the order of the items, and raise where one raised.

    Args:
        function: releases Python's lock for most of its time; else nothing is gained.
        items: no more than twice as many as there are threads are worked on or wait to be taken.
        num_threads: with one there is no thread beside the caller's.
    """
    if num_threads < 2:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for item in items:
            if len(waiting) == 2 * num_threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
