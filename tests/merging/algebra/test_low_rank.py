"""One update: its shape, its dense form, inner products without it."""

import pytest
import torch

from merging.algebra.low_rank import LowRank


@pytest.fixture
def update() -> LowRank:
    b = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]])
    a = torch.tensor([[1.0, 2.0, 3.0, 0.0], [0.0, 1.0, 0.0, 4.0]])
    return LowRank(b, a, scale=0.5)


def test_shape_is_that_of_the_weight_and_rank_the_inner_one(update: LowRank) -> None:
    assert update.shape == (3, 4)
    assert update.rank == 2


def test_dense_is_the_scaled_product(update: LowRank) -> None:
    # rows of b @ a: (1,2,3,0); 2*(1,2,3,0) + (0,1,0,4) = (2,5,6,4); -(0,1,0,4)
    expected = [[0.5, 1.0, 1.5, 0.0], [1.0, 2.5, 3.0, 2.0], [0.0, -0.5, 0.0, -2.0]]
    assert update.dense().tolist() == expected


def test_rows_are_those_of_the_dense_update(update: LowRank) -> None:
    assert update.rows(slice(1, 3)).tolist() == [[1.0, 2.5, 3.0, 2.0], [0.0, -0.5, 0.0, -2.0]]


def test_dense_multiplies_in_float32_whatever_the_factors_are_stored_in() -> None:
    # 257 is no bfloat16: the product of bfloat16 factors would come back as 256
    b, a = torch.ones(1, 2, dtype=torch.bfloat16), torch.tensor([[256.0], [1.0]]).bfloat16()
    assert LowRank(b, a, scale=1.0).dense().tolist() == [[257.0]]
