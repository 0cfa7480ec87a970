"""What a dense merge is made of: worked values, in one block and in many."""

import pytest
import torch

from merging.algebra.dense_figures import count_signs, dense_figures
from merging.algebra.low_rank import LowRank

FIRST = LowRank(
    b=torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]]),
    a=torch.tensor([[1.0, 2.0, 3.0, 0.0], [0.0, 1.0, 0.0, 4.0]]),
    scale=0.5,
)  # 0.5 1 1.5 0 | 1 2.5 3 2 | 0 -0.5 0 -2
SECOND = LowRank(
    b=torch.tensor([[1.0], [0.0], [-1.0]]), a=torch.tensor([[1.0, -1.0, 0.0, 2.0]]), scale=1.0
)  # 1 -1 0 2 | 0 0 0 0 | -1 1 0 -2


@pytest.mark.parametrize("block", [1, 8, 100])  # a row has 4 entries
def test_the_figures_are_worked_values_whatever_the_block(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("merging.algebra.dense_figures._BLOCK", block)
    merged = torch.arange(12.0).reshape(3, 4) - 5  # -5 -4 -3 -2 | -1 0 1 2 | 3 4 5 6
    figures = dense_figures([FIRST, None, SECOND], merged)
    # 0.5*-5 + 1*-4 + 1.5*-3 = -11;  1*-1 + 3*1 + 2*2 = 6;  -0.5*4 - 2*6 = -14
    # -5 + 4 - 4 = -5;  0;  -3 + 4 - 12 = -11
    assert figures.inner == (-19.0, 0.0, -16.0)
    assert figures.energy == 55 + 91  # squares of 1 to 5, and of 1 to 6
    # contested: two of the first row, of which one is opposed; two of the last, of which one
    assert figures.sign_conflict == 0.5


def test_nothing_contested_is_no_conflict() -> None:
    assert dense_figures([FIRST, None], FIRST.dense()).sign_conflict == 0.0


def test_energy_keeps_more_than_float32_does() -> None:
    update = LowRank(b=torch.ones(1, 1), a=torch.tensor([[4096.0, 1.0]]), scale=1.0)
    assert dense_figures([update], update.dense()).energy == 16777217.0


def test_signs_are_counted_where_two_updates_or_more_are_not_zero() -> None:
    updates = [
        torch.tensor([1.0, -1.0, 0.0, 2.0, 0.0, -1.0]),
        torch.tensor([2.0, 3.0, 0.0, 0.0, 0.0, -1.0]),
        torch.tensor([0.0, 1.0, 4.0, -1.0, 0.0, 0.0]),
    ]
    # contested: the first, second, fourth and last; opposed: the second and fourth
    assert count_signs([update.numpy() for update in updates]) == (4, 2)
    assert count_signs([updates[0].numpy()]) == (0, 0)
