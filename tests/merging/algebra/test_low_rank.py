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


@pytest.mark.parametrize(("block", "num_parts"), [(1, 3), (8, 2), (100, 1)])
def test_parts_are_the_rows_of_the_dense_update(
    update: LowRank, monkeypatch: pytest.MonkeyPatch, block: int, num_parts: int
) -> None:
    monkeypatch.setattr("merging.algebra.low_rank._BLOCK", block)  # of entries; a row has 4
    parts = list(update.parts())
    assert len(parts) == num_parts
    torch.testing.assert_close(torch.cat(parts), update.dense(), rtol=0, atol=0)


def test_dense_multiplies_in_float32_whatever_the_factors_are_stored_in() -> None:
    # 257 is no bfloat16: the product of bfloat16 factors would come back as 256
    b, a = torch.ones(1, 2, dtype=torch.bfloat16), torch.tensor([[256.0], [1.0]]).bfloat16()
    assert LowRank(b, a, scale=1.0).dense().tolist() == [[257.0]]


def test_inner_product_is_the_sum_of_products_of_entries(update: LowRank) -> None:
    delta = torch.arange(12.0).reshape(3, 4) - 5
    # 0.5*-5 + 1*-4 + 1.5*-3 = -11;  1*-1 + 2.5*0 + 3*1 + 2*2 = 6;  -0.5*4 - 2*6 = -14
    assert update.inner_product(delta) == -19.0
