"""Memory of a step by hand-worked arithmetic, and by what PyTorch's own profiler saw."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainingArguments

from finetuning.training import operations
from finetuning.training.loss import answer_loss
from finetuning.training.memory import StepMemory, _left_in_containers, optimizer_ratio
from models.loading import LoadedModel
from tests.finetuning.training_jobs import RECIPE, make

CPU = torch.device("cpu")


def test_what_waits_and_what_is_the_most_by_hand() -> None:
    x = torch.ones(1000, requires_grad=True)
    with StepMemory(CPU) as memory:
        y = x.exp()  # 4,000 bytes, which its own gradient needs
        total = y.sum()  # 4
        memory.after_forward()
        total.backward()  # 4 for the gradient of the sum, which is only seen as large, and 4,000
    assert memory.held == 4004
    assert memory.peak == 8008
    assert y.shape == (1000,)


def test_what_was_there_before_is_not_counted_and_what_is_dropped_is_freed() -> None:
    weight, x = torch.ones(300, 500), torch.ones(7, 500)
    with StepMemory(CPU) as memory:
        for _ in range(3):
            out = torch.nn.functional.linear(x, weight)  # (7, 300), by a view of the weight
            del out
        memory.after_forward()
    assert memory.held == 0
    assert memory.peak == 7 * 300 * 4


def test_the_kernel_of_attention_is_named() -> None:
    query = torch.randn(2, 4, 64, 16, requires_grad=True)
    with StepMemory(CPU) as memory:
        torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
    assert memory.attention == "flash"


def test_operations_of_a_step_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of matrices forward, and attention forward and backward."""
    query, weight = torch.randn(2, 4, 64, 16, requires_grad=True), torch.randn(16, 16)

    def loss(*_: object) -> torch.Tensor:
        mixed = torch.nn.functional.linear(query, weight)
        return torch.nn.functional.scaled_dot_product_attention(mixed, mixed, mixed).sum()

    monkeypatch.setattr(operations, "answer_loss", loss)
    product = 2 * (2 * 4) * 64 * 64 * 16  # one of batch x heads, a multiply-add as two
    attention = (2 + 5) * product  # scores and values; the backward pass has five
    linear = 2 * (2 * 2 * 4 * 64 * 16 * 16)  # forward, and the gradient of its input
    model: Any = torch.nn.Identity()
    assert operations.step_flops(model, {}, "token") == attention + linear


def test_a_step_is_what_the_profiler_saw_of_it(loaded: LoadedModel, tmp_path: Path) -> None:
    trainer = make(loaded, RECIPE, tmp_path)
    family, model = loaded.family, trainer.model.train()
    batch = family.collate([trainer.train_dataset[0, n] for n in range(8)])
    answer_loss(model, batch, 8, "example").backward()
    model.zero_grad()
    with StepMemory(CPU) as memory:
        answer_loss(model, batch, 8, "example").backward()
    model.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        answer_loss(model, batch, 8, "example").backward()
    seen.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    taken = [event for event in events if event.get("name") == "[memory]"]
    live = peak = 0
    for event in sorted(taken, key=lambda event: event["ts"]):
        live += event["args"]["Bytes"]
        peak = max(peak, live)
    assert memory.peak == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000\n", "memory.current": "400\n"}, [600]),
        ({"memory.max": "max\n", "memory.current": "400\n"}, []),
        ({"memory/memory.limit_in_bytes": "70", "memory/memory.usage_in_bytes": "80"}, [0]),
        ({}, []),
    ],
)
def test_a_container_leaves_its_limit_less_what_is_used(
    files: dict[str, str], left: list[int], tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _left_in_containers(tmp_path) == left


@pytest.mark.parametrize(
    ("optim", "ratio"), [("adamw_torch", 2.0), ("sgd", 0.0), ("adafactor", 2 / 256)]
)
def test_states_of_an_optimiser(optim: str, ratio: float, tmp_path: Path) -> None:
    """Adam has two moments, plain SGD none, Adafactor a row and a column of a square matrix."""
    arguments = TrainingArguments(output_dir=str(tmp_path), optim=optim, use_cpu=True)
    assert optimizer_ratio(arguments, CPU) == pytest.approx(ratio, abs=1e-4)
