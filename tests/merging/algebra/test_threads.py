"""Torch's threads are put away while merging, and given back."""

import threading

import torch

from merging.algebra.threads import one_thread, side_by_side


def test_torch_has_one_thread_inside_and_its_own_number_behind() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_arguments_from_other_threads() -> None:
    caller = threading.get_ident()
    found = side_by_side(lambda x, y: (x + y, threading.get_ident() != caller), range(50), [1] * 50)
    assert found == [(x + 1, True) for x in range(50)]
