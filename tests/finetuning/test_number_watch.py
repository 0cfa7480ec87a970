"""NaN and infinity: found in the step, before a save and at loading, and named."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback

from finetuning.training import trainer as trainer_module
from finetuning.training.number_watch import NoNumber
from finetuning.training.run import finetune
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from tests.finetuning.training_jobs import RECIPE, job, make

NAN, INF = float("nan"), float("inf")
Spoil = Callable[[Any, Tensor], Tensor]  # model, loss -> loss


def nan_loss(_: Any, loss: Tensor) -> Tensor:
    return loss * NAN


def infinite_loss(_: Any, loss: Tensor) -> Tensor:
    return loss + INF


def nan_gradient(model: Any, loss: Tensor) -> Tensor:
    """The root of 0 is 0 and has an infinite slope, of which 0 parts are NaN."""
    weight = next(p for p in model.parameters() if p.requires_grad)
    return loss + (0 * weight).abs().sum().sqrt()


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (nan_loss, "The loss became nan"),
        (infinite_loss, "The loss became inf"),
        (nan_gradient, "The gradient's norm became nan"),
    ],
)
def test_the_step_stops_before_the_weights_move(
    spoil: Spoil, found: str, loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, max_steps=4, lr_scheduler_type="constant", warmup_ratio=0.0)
    trainer = make(loaded, recipe, tmp_path)
    right = trainer_module.answer_loss
    steps: list[dict[str, Tensor]] = []

    def loss_of(model: Any, *rest: Any) -> Tensor:
        steps.append({n: p.detach().clone() for n, p in model.named_parameters()})
        loss = right(model, *rest)
        return spoil(model, loss) if len(steps) == 3 else loss

    monkeypatch.setattr(trainer_module, "answer_loss", loss_of)
    with pytest.raises(NoNumber) as caught:
        trainer.train()
    # eight examples, batches of four: the third step has four of the second epoch
    ids = [trainer.train_dataset[key].example_id for key in list(epoch(trainer, 1))[:4]]
    assert str(caught.value) == (
        f"{found} at step 3 (learning rate 0.01, examples {', '.join(map(str, ids))}): lower "
        "--learning_rate, or use --dtype bf16 or fp32."
    )
    now = dict(trainer.model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in steps[2].items())


def epoch(trainer: Any, number: int) -> Any:
    sampler = trainer._get_train_sampler()
    sampler.set_epoch(number)
    return iter(sampler)


class SpoilWeight(TrainerCallback):
    """Makes a trained weight infinite at the end of a step, as an overflow does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == self.step:
            weight = next(p for p in model.parameters() if p.requires_grad)
            with torch.no_grad():
                weight.view(-1)[0] = INF


def test_weights_without_numbers_are_not_saved(loaded: LoadedModel, tmp_path: Path) -> None:
    trainer = make(loaded, replace(RECIPE, max_steps=4, save_steps=2), tmp_path)
    trainer.add_callback(SpoilWeight(4))
    with pytest.raises(NoNumber, match="The adapter became NaN or infinite in 1 tensors"):
        trainer.train()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-2"]


def test_a_rate_beyond_all_bounds_does_not_end_in_an_adapter(pico1: Path, tmp_path: Path) -> None:
    changes = {"learning_rate": 1e30, "max_steps": 6, "skip_evaluation": True}
    with pytest.raises(RuntimeError, match=r"became .* In .*: .*checkpoint"):
        finetune(job(pico1, tmp_path / "run", lr_scheduler_type="constant", **changes))
    assert not (tmp_path / "run/adapter_model.safetensors").exists()


def spoil_tensor(path: Path, name_part: str, value: float) -> str:
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name_part in name)
    tensors[name].view(-1)[5] = value
    save_file(tensors, path, metadata={"format": "pt"})
    return name


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
@pytest.mark.parametrize(
    ("part", "value"), [("layers.1.mlp.up_proj", NAN), ("embed_tokens", INF), ("vision", NAN)]
)
def test_a_base_that_holds_no_number_is_named(
    part: str, value: float, quantization: Any, pico1: Path, tmp_path: Path
) -> None:
    shutil.copytree(pico1, tmp_path / "base")
    spoil_tensor(tmp_path / "base/model.safetensors", part, value)
    with pytest.raises(ValueError, match=f"hold NaN or infinity in 1 tensors, .*{part}"):
        load_model(resolve(str(tmp_path / "base")), quantization=quantization, device="cpu")


def test_training_does_not_go_on_from_an_adapter_that_holds_no_number(
    pico1: Path, tmp_path: Path
) -> None:
    finetune(job(pico1, tmp_path / "run", max_steps=1, skip_evaluation=True))
    name = spoil_tensor(tmp_path / "run/adapter_model.safetensors", "lora_A", NAN)
    with pytest.raises(ValueError, match=re.escape(name)):
        finetune(job(pico1, tmp_path / "next", lora_init_from=str(tmp_path / "run")))
    assert not (tmp_path / "next").exists()
