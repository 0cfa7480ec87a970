"""The last feed-forward, of every family: at the positions that are read, and at no other."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finetuning.training.loss import answer_loss
from models.checkpoint import resolve
from models.decoder_layers import narrowed, narrowed_part
from models.encoding import IGNORE_INDEX
from models.generation import generate_ids
from models.loading import LoadedModel, load_model
from models.settings import Decoding
from tests.models.examples import image
from tests.models.tiny_families import NAMES, maker

NARROWED = [name for name in NAMES if name != "blip2"]  # the layers of OPT have no such part
TALKS = [("what is it?", "a red circle"), ("how many?", "two")]


@pytest.fixture(scope="module", params=NARROWED)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = tmp_path_factory.mktemp(request.param)
    maker(request.param)(folder)
    return load_model(resolve(str(folder)), quantization="none", dtype="fp32", device="cpu")


@pytest.fixture
def widths(loaded: LoadedModel) -> Any:
    """How many positions each pass of the last feed-forward computes."""
    feed_forward = loaded.model.get_decoder().layers[-1].mlp
    part = next(m for m in feed_forward.modules() if isinstance(m, nn.Linear))
    found: list[int] = []
    hook = part.register_forward_pre_hook(lambda _, x: found.append(x[0][..., 0].numel()))
    yield found
    hook.remove()


def batch_of(loaded: LoadedModel, *, is_asked: bool = False) -> dict[str, Tensor]:
    size = 1 if is_asked else 2
    talks = [list(zip(("user", "assistant"), talk, strict=True))[:size] for talk in TALKS]
    return loaded.family.collate([loaded.family.encode(image(), talk) for talk in talks])


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_are_those_of_all_positions(loaded: LoadedModel, widths: list[int]) -> None:
    batch, model = batch_of(loaded), loaded.model.eval()
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    targets = batch["labels"][:, 1:]
    logits = model(**inputs).logits[:, :-1].flatten(0, 1)
    stock = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX)
    expected = gradients(model, stock)
    num_targets = int((targets != IGNORE_INDEX).sum())
    ours = answer_loss(model, batch, num_targets, "token")
    assert widths == [batch["labels"].numel(), num_targets]
    assert ours.item() == pytest.approx(stock.item(), abs=1e-6)
    found = gradients(model, ours)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_a_prompts_last_token_alone_is_computed(loaded: LoadedModel, widths: list[int]) -> None:
    inputs = {k: v for k, v in batch_of(loaded, is_asked=True).items() if k != "labels"}
    with torch.no_grad():
        expected = loaded.model(**inputs).logits[:, -1]
        with narrowed(loaded.model):
            found = loaded.model(**inputs).logits[:, -1]
        whole = loaded.model(**inputs).logits[:, -1]
    assert widths == [inputs["input_ids"].numel(), 2, inputs["input_ids"].numel()]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(whole, expected)
    widths.clear()
    generate_ids(loaded.model, inputs, Decoding(max_new_tokens=3, min_new_tokens=3))
    assert widths == [2, 2, 2]


@pytest.fixture
def paligemma(tmp_path: Path) -> LoadedModel:
    maker("paligemma")(tmp_path)
    return load_model(resolve(str(tmp_path)), quantization="none", dtype="fp32", device="cpu")


def test_a_feed_forward_that_takes_or_tells_more_runs_as_it_is(
    paligemma: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed_forward = paligemma.model.get_decoder().layers[-1].mlp
    plain, shapes = feed_forward.forward, []

    def telling(hidden: Tensor, *kinds: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        shapes.append(tuple(hidden.shape[:2]))
        return plain(hidden), kinds

    monkeypatch.setattr(feed_forward, "forward", telling)
    hidden = torch.randn(2, 5, paligemma.model.config.get_text_config().hidden_size)
    with torch.no_grad(), narrowed(paligemma.model, torch.tensor([3])):
        found, _ = feed_forward(hidden)
        assert torch.equal(found, plain(hidden)) and shapes[-1] == (2, 5)
        found, kinds = feed_forward(hidden, torch.ones(2, 5))
    assert torch.equal(found, plain(hidden)) and kinds[0].shape == (2, 5)
    assert shapes[1:] == [(2, 5)] * 2


def test_it_is_whole_where_others_depend_on_its_positions(paligemma: LoadedModel) -> None:
    model = paligemma.model
    last = model.get_decoder().layers[-1]
    assert narrowed_part(model) is last.mlp
    last.mlp_sconv = nn.Conv1d(4, 4, 3)  # as Inkling's layers have one behind the feed-forward
    assert narrowed_part(model) is None
    del last.mlp_sconv
    model.config.get_text_config().output_router_logits = True  # the library's loss counts them
    assert narrowed_part(model) is None


def test_gradients_are_the_same_where_the_last_layer_is_computed_again(
    paligemma: LoadedModel,
) -> None:
    batch, model = batch_of(paligemma), paligemma.model.train()
    expected = gradients(model, answer_loss(model, batch, 1, "token"))
    model.activation_checkpointing_enable()  # of all layers, as the library does it
    assert narrowed_part(model) is None
    found = gradients(model, answer_loss(model, batch, 1, "token"))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
