"""The trainer: what it moves and leaves alone, accumulation, resuming, scoring on the way."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

from evaluation.prompting import make_prompter
from finetuning.training.examples import EncodedExamples, EpochSampler
from finetuning.training.gradients import check_gradients
from finetuning.training.job import Job, load_data
from finetuning.training.lora import add_lora
from finetuning.training.recipe import Recipe
from finetuning.training.run import finetune
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from tasks.base import Source, TaskSource
from tasks.registry import get_task
from tests.finetuning.training_jobs import DIGITS, RECIPE, adapter_hash, job, make
from tests.helpers import REPOSITORY
from tests.official_files import write_coco, write_hub_copy


def test_training_moves_lora_alone_and_leaves_every_base_weight_bit_for_bit(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    trainer = make(loaded, replace(RECIPE, max_steps=3), tmp_path)
    lora = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if "lora_" in n}
    trainer.train()
    after = dict(trainer.model.get_base_model().named_parameters())
    for name, weight in before.items():
        found = after.get(name, after.get(name.replace(".weight", ".base_layer.weight")))
        assert found is not None and torch.equal(found, weight), name
    moved = [n for n, p in trainer.model.named_parameters() if n in lora and not p.equal(lora[n])]
    # 2 layers x 7 modules, A and B each
    assert len(moved) == len(lora) == 28


def test_no_step_walks_all_weights_to_estimate_operations(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(loaded, replace(RECIPE, max_steps=2), tmp_path)
    counted: list[bool] = []
    count = lambda _, **options: counted.append(options.get("exclude_embeddings", False)) or 1  # noqa: E731
    monkeypatch.setattr("transformers.PreTrainedModel.num_parameters", count)
    trainer.train()
    assert trainer.state.global_step == 2
    assert True not in counted


def test_no_step_walks_through_all_modules(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, train = torch.nn.Module.named_modules, torch.nn.Linear.train
    visits: list[str] = []
    walk_counted = lambda self, *args, **more: visits.append("walk") or walk(self, *args, **more)  # noqa: E731
    train_counted = lambda self, *args: visits.append("train") or train(self, *args)  # noqa: E731

    def visits_of(num_steps: int) -> list[str]:
        recipe = replace(RECIPE, max_steps=num_steps)
        trainer = make(loaded, recipe, tmp_path, num_examples=16)  # of one epoch
        model = trainer.model
        monkeypatch.setattr(type(model), "named_modules", walk_counted)
        monkeypatch.setattr("torch.nn.Linear.train", train_counted)
        visits.clear()
        trainer.train()
        monkeypatch.undo()
        assert trainer.state.global_step == num_steps
        assert not {"train", "zero_grad"} & set(vars(model))  # and they are the model's own again
        model.unload()
        return list(visits)

    first, more = visits_of(1), visits_of(4)
    assert "walk" in first
    assert more == first


def test_the_4_bit_path_is_taken_and_lora_is_in_full_precision(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    model = make(loaded, RECIPE, tmp_path).model
    assert sum(isinstance(module, bnb.nn.Linear4bit) for module in model.modules()) == 14
    kinds = {p.dtype for name, p in model.named_parameters() if "lora_" in name}
    assert kinds == {torch.float32}
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)


def test_lora_stays_out_of_the_vision_tower(loaded: LoadedModel) -> None:
    model = add_lora(loaded.model, loaded.family, RECIPE)
    adapted = {name for name, _ in model.named_modules() if name.endswith("lora_A")}
    assert len(adapted) == 14
    assert not [name for name in adapted if "vision_tower" in name or "projector" in name]


def test_a_group_without_modules_stops_the_run(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(loaded.family), "lora_groups", {"attention": "x", "ffn": ".*mlp.*"})
    with pytest.raises(ValueError, match=r"'attention' is no linear layer of .* whose layers are"):
        add_lora(loaded.model, loaded.family, RECIPE)


def test_a_path_without_gradients_is_found(loaded: LoadedModel, tmp_path: Path) -> None:
    trainer = make(loaded, RECIPE, tmp_path)
    batch = loaded.family.collate([trainer.train_dataset[0, 0]])
    check_gradients(trainer.model, batch, "example")
    # what the packed weights did: the second layer's input gets no gradient
    second = trainer.model.get_base_model().model.language_model.layers[1]
    second.register_forward_pre_hook(lambda _, args: (args[0].detach(), *args[1:]))
    with pytest.raises(RuntimeError, match="7 of 14 LoRA modules get no gradient"):
        check_gradients(trainer.model, batch, "example")


def test_layers_that_reach_nothing_are_told_from_faults_of_the_kernels(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tower = loaded.model.model.vision_tower
    tower.head = torch.nn.Linear(64, 64)  # as SigLIP's, which pools what is not asked for
    monkeypatch.setattr(type(loaded.family), "is_unused", lambda *_: False)
    recipe = replace(RECIPE, lora_vision=True, lora_target_modules="all-linear")
    with pytest.raises(ValueError, match=r"^1 of \d+ LoRA .*vision_tower\.head.*--lora_vision out"):
        make(loaded, recipe, tmp_path)


class RecordGradients(TrainerCallback):
    """Keeps the gradients of the first optimiser step."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.found:
            parameters = kwargs["model"].named_parameters()
            self.found = {n: p.grad.clone() for n, p in parameters if p.grad is not None}


def first_gradients(
    pico: Path, recipe: Recipe, folder: Path, num_examples: int
) -> dict[str, Tensor]:
    loaded = load_model(resolve(str(pico)), quantization="none", device="cpu")
    trainer = make(loaded, recipe, folder, num_examples)
    trainer.train_dataset = VaryingAnswers(trainer.train_dataset)
    trainer.args.max_grad_norm = 0.0
    record = RecordGradients()
    trainer.add_callback(record)
    trainer.train()
    return record.found


class VaryingAnswers:
    """The same examples with answers of one to six words, so that the two reductions differ."""

    def __init__(self, examples: Any) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        example = self.examples.dataset[key[1]]
        return self.examples.prompter.encode(example, " ".join(["red"] * (1 + key[1] % 6)))


@pytest.mark.parametrize("num_examples", [4, 3], ids=["full step", "partial last batch"])
@pytest.mark.parametrize("reduction", ["example", "token"])
def test_four_batches_of_one_give_the_gradients_of_one_batch_of_four(
    pico1: Path, tmp_path: Path, reduction: Any, num_examples: int
) -> None:
    recipe = replace(RECIPE, lora_dropout=0.0, max_steps=1, loss_reduction=reduction)
    whole = first_gradients(pico1, replace(recipe, batch_size=4), tmp_path / "a", num_examples)
    parts = replace(recipe, batch_size=1, gradient_accumulation_steps=4)
    added = first_gradients(pico1, parts, tmp_path / "b", num_examples)
    uneven = replace(recipe, batch_size=3, gradient_accumulation_steps=2)
    split = first_gradients(pico1, uneven, tmp_path / "c", num_examples)
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    assert largest > 1e-4 and len(whole) == 28
    for name, gradient in whole.items():
        assert torch.allclose(added[name], gradient, atol=1e-5 * largest), name
        assert torch.allclose(split[name], gradient, atol=1e-5 * largest), name


def test_each_epoch_has_an_order_of_its_own_and_repeats_it() -> None:
    sampler = EpochSampler(20, seed=5)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert [epoch for epoch, _ in second] == [1] * 20
    assert sorted(index for _, index in second) == list(range(20))
    assert [index for _, index in first] != [index for _, index in second]
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_the_epoch_reaches_the_target(loaded: LoadedModel, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    class Recording(EncodedExamples):
        def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Any:
            seen.extend(keys)
            return super().__getitems__(keys)

    trainer = make(loaded, replace(RECIPE, num_epochs=2, batch_size=8), tmp_path)
    examples = trainer.train_dataset
    trainer.train_dataset = Recording(
        examples.dataset, examples.prompter, examples.seed, examples.sampling
    )
    trainer.train()
    assert sorted(seen) == [(epoch, index) for epoch in (0, 1) for index in range(8)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_resumed_run_ends_with_the_same_bytes(
    pico1: Path, tmp_path: Path, num_workers: int
) -> None:
    # 24 examples at batch 4 and accumulation 2: 3 steps an epoch, checkpoints at 2, 4 and 6, so
    # that 4 lies within the second epoch
    changes = {"gradient_accumulation_steps": 2, "num_workers": num_workers, "save_total_limit": 9}
    finetune(job(pico1, tmp_path / "whole", **changes))
    torn = tmp_path / "torn"
    shutil.copytree(tmp_path / "whole", torn)
    (torn / "adapter_model.safetensors").unlink()
    shutil.rmtree(torn / "checkpoints" / "checkpoint-6")
    finetune(job(pico1, torn, resume=True, **changes))
    assert adapter_hash(torn) == adapter_hash(tmp_path / "whole")
    history = [
        json.loads((folder / "trainer_state.json").read_text())["log_history"]
        for folder in (torn, tmp_path / "whole")
    ]
    curves = [[(log["step"], log["loss"]) for log in logs if "loss" in log] for logs in history]
    assert curves[0] == curves[1] and len(curves[0]) == 6


def test_the_newest_checkpoint_is_passed_over_where_it_is_torn(pico1: Path, tmp_path: Path) -> None:
    finetune(job(pico1, tmp_path / "run", save_total_limit=9))
    expected = adapter_hash(tmp_path / "run")
    checkpoints = sorted((tmp_path / "run" / "checkpoints").iterdir())
    (checkpoints[-1] / "optimizer.pt").unlink()
    finetune(job(pico1, tmp_path / "run", resume=True, save_total_limit=9))
    assert adapter_hash(tmp_path / "run") == expected


def test_another_seed_gives_another_adapter(pico1: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        finetune(job(pico1, tmp_path / str(seed), seed=seed, max_steps=2))
    assert adapter_hash(tmp_path / "1") != adapter_hash(tmp_path / "2")


def scripted(values: Sequence[float]) -> Any:
    """A scorer that gives these values in turn."""
    remaining = iter(values)
    return lambda model: {"accuracy": next(remaining)}


def test_the_best_checkpoint_by_the_metric_is_kept_and_loaded(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, max_steps=4, eval_steps=1, save_total_limit=1)
    at_step: dict[int, Mapping[str, Tensor]] = {}
    values = iter([10.0, 40.0, 30.0, 20.0])

    def scorer(model: Any) -> dict[str, float]:
        at_step[len(at_step) + 1] = {
            n: p.detach().clone() for n, p in model.named_parameters() if "lora_B" in n
        }
        return {"accuracy": next(values)}

    trainer = make(loaded, recipe, tmp_path, num_examples=16, scorer=scorer)
    trainer.train()
    assert trainer.state.best_metric == 40.0
    assert str(trainer.state.best_model_checkpoint).endswith("checkpoint-2")
    weights = dict(trainer.model.named_parameters())
    assert all(torch.equal(weights[name], weight) for name, weight in at_step[2].items())
    assert not all(torch.equal(weights[name], weight) for name, weight in at_step[4].items())


def test_training_stops_early_where_the_metric_no_longer_rises(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, max_steps=9, eval_steps=1, early_stopping_patience=2)
    scorer = scripted([10.0, 20.0, 15.0, 20.0, 99.0])
    trainer = make(loaded, recipe, tmp_path, num_examples=16, scorer=scorer)
    trainer.train()
    assert trainer.state.global_step == 4  # two scorings without a better one after step 2


def test_scoring_on_the_way_is_by_generation_with_the_tasks_metric(
    pico1: Path, tmp_path: Path
) -> None:
    scored = logged(job(pico1, tmp_path / "scored", max_steps=3, eval_steps=1, save_steps=1))
    accuracies = [log["eval_accuracy"] for log in scored["log_history"] if "eval_accuracy" in log]
    assert len(accuracies) == 3
    assert set(accuracies) <= {0.0, 25.0, 50.0, 75.0, 100.0}  # four examples
    assert scored["best_metric"] == max(accuracies)
    # training goes on as if nothing had been scored: with dropout, too
    alone = logged(job(pico1, tmp_path / "alone", max_steps=3))
    losses = [
        [log["loss"] for log in run["log_history"] if "loss" in log] for run in (scored, alone)
    ]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3


def logged(task: Job) -> Any:
    finetune(task)
    return json.loads((task.output_dir / "trainer_state.json").read_text())


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_trains_lora_in_full(pico1: Path, tmp_path: Path, dtype: Any) -> None:
    finetune(job(pico1, tmp_path / "run", max_steps=2, dtype=dtype))
    weights = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert any(weight.abs().max() > 0 for name, weight in weights.items() if "lora_B" in name)


def test_hub_split_names_what_is_trained_on_and_not_what_is_scored(
    pico1: Path, tmp_path: Path
) -> None:
    data = write_hub_copy(tmp_path / "data", "docvqa")
    base = job(pico1, tmp_path / "run", max_steps=1)
    source = Source(data_root=data, hub_split="train")
    train_data, eval_data = load_data(TaskSource(get_task("docvqa"), source), base.recipe)
    assert eval_data is not None
    assert not {e.example_id for e in train_data} & {e.example_id for e in eval_data}


def test_plain_peft_loads_the_adapter_with_the_same_logits(pico: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    finetune(job(pico, tmp_path / "run", max_steps=3, quantization="none"))
    ours = load_model(resolve(str(tmp_path / "run")), quantization="none", device="cpu")
    base = AutoModelForImageTextToText.from_pretrained(pico)
    theirs = PeftModel.from_pretrained(base, tmp_path / "run").eval()
    data = DIGITS.load("val", Source()).subset(3, 0)
    prompter = make_prompter(DIGITS, ours.family)
    batch = ours.family.collate([prompter.encode(example, "7") for example in data])
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with torch.no_grad():
        expected = theirs(**inputs).logits
        assert torch.equal(ours.model(**inputs).logits, expected)
        with theirs.disable_adapter():  # otherwise the adapter might do nothing at all
            assert (theirs(**inputs).logits - expected).abs().max() > 1e-3


def test_each_training_of_a_process_reports_to_wandb_in_its_own_folder(
    pico1: Path, tmp_path: Path
) -> None:
    for name in ("wandb", "another"):
        finetune(job(pico1, tmp_path / name, max_steps=2, report_to="wandb"))
        (record,) = (tmp_path / name / "wandb").glob("offline-run-*/*.wandb")
        content = record.read_bytes()
        assert b"train/loss" in content and b"palitune" in content


@pytest.mark.slow
def test_two_processes_step_as_one_with_the_double_batch(pico1: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_coco(data, num_train=8)  # captions of differing lengths, so that the weights matter
    script = REPOSITORY / "finetuning" / "coco_captioning.py"
    options = ["--model_path", str(pico1), "--data_root", str(data), "--max_steps", "1"]
    options += ["--lora_dropout", "0", "--device", "cpu", "--max_eval_samples", "1"]
    options += ["--loss_reduction", "token", "--learning_rate", "1e-2", "--warmup_ratio", "0"]
    options += ["--optim", "sgd"]  # its step is as large as the gradient, unlike Adam's
    single = [sys.executable, str(script), "--batch_size", "8", "--output_dir", str(tmp_path / "1")]
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    double = [torchrun, "--nproc_per_node", "2", str(script), "--batch_size", "4"]
    double += ["--output_dir", str(tmp_path / "2")]
    for command in (single, double):
        subprocess.run([*command, *options], check=True, capture_output=True, cwd=tmp_path)
    one, two = (load_file(tmp_path / n / "adapter_model.safetensors") for n in "12")
    moments = [json.loads((tmp_path / n / "trainer_state.json").read_text()) for n in "12"]
    assert [state["global_step"] for state in moments] == [1, 1]
    assert all(weight.abs().max() > 0 for weight in one.values())  # B starts at zero
    largest = max(float(weight.abs().max()) for name, weight in one.items() if "lora_B" in name)
    for name, weight in one.items():
        assert torch.allclose(two[name], weight, atol=1e-3 * largest), name
