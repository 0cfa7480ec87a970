"""Work in threads that goes ahead of who takes the results, and no further than it should."""

import threading
import time
from collections.abc import Iterator

import pytest

from common.threads import map_ahead


@pytest.mark.parametrize("num_threads", [0, 1, 2, 5, 40])
def test_results_come_in_the_order_of_the_items(num_threads: int) -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.01 if number < 3 else 0)
        return number * number

    found = list(map_ahead(slow_at_first, range(20), num_threads))
    assert found == [number * number for number in range(20)]


def test_two_items_are_worked_on_at_once() -> None:
    both = threading.Barrier(2, timeout=10)  # broken, and an error, where one comes alone
    assert len(list(map_ahead(lambda _: both.wait(), range(2), 2))) == 2


def test_one_thread_is_the_callers() -> None:
    (found,) = map_ahead(lambda _: threading.current_thread(), [0], 1)
    assert found is threading.current_thread()


def test_no_more_is_taken_than_can_wait() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = map_ahead(lambda number: number, items(), 3)
    assert taken == []
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) == 8  # six wait
    results.close()  # type: ignore[attr-defined]
    assert len(taken) == 8


def test_an_error_comes_in_its_turn_and_ends_the_work() -> None:
    begun: list[int] = []

    def fails_at_five(number: int) -> int:
        begun.append(number)
        time.sleep(0.01)
        if number == 5:
            raise ValueError("five")
        return number

    results = map_ahead(fails_at_five, range(1000), 2)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="five"):
        next(results)
    assert max(begun) < 12
