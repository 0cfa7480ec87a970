"""The one loss path against the model's own loss, and its two reductions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finetuning.training.loss import answer_logits, answer_loss, count_items
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from tests.models.test_paligemma import encoded


@pytest.fixture
def loaded(pico: Path) -> LoadedModel:
    return load_model(resolve(str(pico)), quantization="none", device="cpu")


def make_batch(loaded: LoadedModel) -> dict[str, Tensor]:
    pairs = [("what is it?", "red"), ("caption en", "a red circle and a blue square"), ("a", "no")]
    return loaded.family.collate(
        [encoded(loaded.family, q, a, i) for i, (q, a) in enumerate(pairs)]
    )


def gradients(model: Any) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_loss_and_gradients_equal_the_stock_ones(loaded: LoadedModel) -> None:
    batch = make_batch(loaded)
    stock = loaded.model(**batch).loss
    stock.backward()
    expected = gradients(loaded.model)
    ours = answer_loss(loaded.model, batch, count_items([batch], "token"), "token")
    ours.backward()
    assert ours.item() == pytest.approx(stock.item(), abs=1e-6)
    found = gradients(loaded.model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-6), name


def test_the_cap_on_logits_applies(loaded: LoadedModel) -> None:
    batch = make_batch(loaded)
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    is_target = torch.zeros_like(batch["labels"], dtype=torch.bool)
    is_target[0, -1] = is_target[2, 20] = True
    with torch.no_grad():
        every = loaded.model(**inputs).logits
        wanted = answer_logits(loaded.model, inputs, is_target)
    assert torch.allclose(wanted, every[is_target], atol=1e-5)
    cap = loaded.model.config.get_text_config().to_dict().get("final_logit_softcapping")
    assert cap is None or every.abs().max() <= cap


def test_logits_of_other_positions_are_never_built(loaded: LoadedModel) -> None:
    batch = make_batch(loaded)
    built: list[int] = []
    head = loaded.model.get_output_embeddings()
    head.register_forward_hook(lambda _m, _i, out: built.append(out.numel() // out.shape[-1]))
    answer_loss(loaded.model, batch, 1, "token")
    # red <eos>, the seven words of the caption and <eos>, no <eos>
    assert built == [2 + 8 + 2]


def test_example_reduction_is_the_mean_of_each_examples_mean(loaded: LoadedModel) -> None:
    batch = make_batch(loaded)
    with torch.no_grad():
        rows = [{name: tensor[i : i + 1] for name, tensor in batch.items()} for i in range(3)]
        means = [float(loaded.model(**row).loss) for row in rows]  # stock: mean over its tokens
        ours = answer_loss(loaded.model, batch, count_items([batch], "example"), "example")
        per_token = answer_loss(loaded.model, batch, count_items([batch], "token"), "token")
    assert float(ours) == pytest.approx(sum(means) / 3, abs=1e-5)
    assert float(per_token) == pytest.approx(
        (2 * means[0] + 8 * means[1] + 2 * means[2]) / 12, abs=1e-5
    )


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_micro_batches_add_up_to_the_whole_batch(loaded: LoadedModel, reduction: Any) -> None:
    batch = make_batch(loaded)
    parts = [{n: t[:1] for n, t in batch.items()}, {n: t[1:] for n, t in batch.items()}]
    with torch.no_grad():
        num_items = count_items(parts, reduction)
        whole = answer_loss(loaded.model, batch, num_items, reduction)
        added = sum(answer_loss(loaded.model, part, num_items, reduction) for part in parts)
    assert float(added) == pytest.approx(float(whole), rel=1e-6)
