"""Batches of like length and of one image together, and how many examples memory bears."""

from types import SimpleNamespace

import psutil
import pytest
import torch

from evaluation.batching import MOST, bytes_of_example, choose_batch_size, make_batches


def test_the_longest_come_first_and_equals_keep_their_order() -> None:
    assert make_batches([3, 9, 9, 5], list("abcd"), 3) == [[1, 2, 3], [0]]


def test_questions_on_one_image_stand_together_by_the_longest_of_them() -> None:
    # c has the longest question, 9; then a, 7; b comes last
    images = ["a", "b", "c", "a", "c", "a"]
    assert make_batches([7, 6, 2, 1, 9, 3], images, 4) == [[4, 2, 0, 5], [3, 1]]


def test_each_example_is_in_one_batch() -> None:
    lengths = [place * 7 % 11 for place in range(50)]
    batches = make_batches(lengths, [place % 13 for place in range(50)], 8)
    assert sorted(place for batch in batches for place in batch) == list(range(50))
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    assert make_batches([], [], 8) == []


CONFIG = SimpleNamespace(
    hidden_size=8,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=4,
    intermediate_size=16,
    num_hidden_layers=3,
    vocab_size=100,
)


def test_the_memory_of_an_example_is_that_worked_out_by_hand() -> None:
    # keys and values: 2 x 4 = 8 numbers a layer, 3 layers: 24; one layer: 3 x 8 + 2 x 8 + 8 + 48
    # = 96; 10 tokens of 120 numbers of 2 bytes: 2400; scores and mask: 4 x 10 x 10 x 3 = 1200;
    # logits: 800
    assert bytes_of_example(CONFIG, 10, 2) == 2400 + 1200 + 800


def test_a_text_model_that_names_its_sizes_otherwise_is_measured_too() -> None:
    config = SimpleNamespace(
        hidden_size=8, num_attention_heads=2, ffn_dim=16, num_hidden_layers=3, vocab_size=100
    )
    # as many keys as queries: 16 numbers a layer, 48 in all; one layer 24 + 16 + 16 + 48 = 104
    assert bytes_of_example(config, 10, 2) == 10 * 152 * 2 + 1200 + 800


@pytest.mark.parametrize(
    ("total", "beams", "expected"),
    [
        (8 * 4400 * 70, 1, 64),  # 70 fit into the eighth: the power of two below
        (8 * 4400 * 70, 3, 16),  # 23 of three sequences each
        (8 * 4400 * 10_000, 1, MOST),
        (100, 1, 1),
    ],
)
def test_as_many_are_answered_as_an_eighth_of_the_memory_bears(
    total: int, beams: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=total))
    model = SimpleNamespace(
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        config=SimpleNamespace(get_text_config=lambda: CONFIG),
    )
    assert choose_batch_size(model, 10, beams) == expected
