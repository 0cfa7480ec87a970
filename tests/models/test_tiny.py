"""The embedded model: small, real, learned by the committed script, ignorant of the tasks."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from models.checkpoint import TINY, resolve
from models.loading import load_family, load_model
from models.tiny import skills
from models.tiny.pretrain import (
    Encoder,
    accuracy,
    build_model,
    build_processor,
    loss_of,
    tell_apart,
    train,
)
from tasks.base import Source
from tasks.registry import get_task
from tasks.sample import sample_root


def test_it_is_small_enough_to_commit() -> None:
    assert sum(path.stat().st_size for path in TINY.iterdir() if path.is_file()) < 8_000_000


def test_it_is_a_real_paligemma_with_the_real_processor() -> None:
    loaded = load_model(resolve("tiny"), quantization="none", device="cpu")
    assert type(loaded.model) is PaliGemmaForConditionalGeneration
    assert type(loaded.family.processor) is PaliGemmaProcessor
    assert loaded.model.config.text_config.model_type == "gemma"
    assert loaded.model.config.vision_config.model_type == "siglip_vision_model"


@pytest.mark.parametrize("skill", [skills.grid, skills.row, skills.kind])
def test_it_has_learned_to_see(skill: skills.Skill) -> None:
    loaded = load_model(resolve("tiny"), quantization="none", device="cpu")
    score = accuracy(loaded.model, Encoder(loaded.family.processor), skill, 40)
    assert score > 0.8  # whole grids and whole rows, to the letter


def _nearest(rows: torch.Tensor) -> torch.Tensor:
    """The distance of each row to the nearest other one."""
    return torch.cdist(rows, rows).fill_diagonal_(torch.inf).min(1).values


def test_each_piece_of_a_word_has_a_vector_of_its_own() -> None:
    loaded = load_model(resolve("tiny"), quantization="none", device="cpu")
    assert _nearest(loaded.model.get_input_embeddings().weight.detach().float()).min() > 0.2


def test_pieces_that_training_left_at_one_vector_are_told_apart_and_no_other() -> None:
    model = build_model(build_processor())
    rows = model.get_input_embeddings().weight.data
    torch.nn.init.normal_(rows[:300], std=1.5 / 128**0.5)
    rows[300:] = 5.2 / 128**0.5
    before = rows.clone()
    assert tell_apart(model, 0) == len(rows) - 300
    assert torch.equal(rows[:300], before[:300])
    assert _nearest(rows).min() > 0.5


@pytest.mark.parametrize("word", ["ball", "Zange", "상자"])
def test_an_adapter_teaches_it_a_word_that_pre_training_never_wrote(word: str) -> None:
    loaded = load_model(resolve("tiny"), quantization="none", device="cpu")
    encoder = Encoder(loaded.family.processor)
    assert len(encoder.tokenize(word)) > 1  # in pieces
    torch.manual_seed(0)
    layers = r".*language_model.*_proj"
    adapted = get_peft_model(loaded.model, LoraConfig(r=16, lora_alpha=32, target_modules=layers))
    image, _, _ = skills.kind(Random(0))
    batch = encoder.batch([(image, "What is it?", word)])
    optimizer = torch.optim.AdamW(adapted.parameters(), lr=5e-3)
    for _ in range(20):
        loss_of(loaded.model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss_of(loaded.model, batch) < 0.1


def test_the_encoder_of_the_script_lays_out_what_the_family_does() -> None:
    family = load_family(resolve("tiny"))
    rng = Random(3)
    examples = [skill(rng) for skill in dict.fromkeys(skills.ALL)]
    ours = Encoder(family.processor).batch(list(examples))
    messages = [[("user", prompt), ("assistant", target)] for _, prompt, target in examples]
    theirs = family.collate(
        [family.encode(image, m) for (image, _, _), m in zip(examples, messages, strict=True)]
    )
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name].float(), tensor.float(), atol=1e-6), name


@pytest.mark.parametrize("name", ["coco_captioning", "docvqa", "gqa", "vqav2"])
def test_no_prompt_of_a_task_occurs_in_its_pre_training(name: str) -> None:
    task = get_task(name)
    dataset = task.load("train", Source(data_root=sample_root(name))).subset(300, 0)
    template = task.prompt("paligemma")
    asked = {template.format(question=example.turns[-1].text) for example in dataset}
    rng = Random(0)
    seen = {skill(rng)[1] for skill in skills.ALL for _ in range(200)}
    assert not asked & seen


def test_the_same_seed_gives_the_same_weights() -> None:
    processor = build_processor()

    def weights() -> torch.Tensor:
        torch.manual_seed(0)
        model = build_model(processor)
        train(model, Encoder(processor), 2, 0, 0, lambda step, loss: None)
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(), weights())


@pytest.mark.slow
def test_the_script_learns_within_a_minute(tmp_path: Path) -> None:
    script = TINY / "pretrain.py"
    command = [sys.executable, str(script), "--output_dir", str(tmp_path), "--num_steps", "400"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    losses = [float(line.split()[3]) for line in result.stdout.splitlines() if "loss" in line]
    assert len(losses) == 4
    assert losses[-1] < 0.5 * losses[0]
    loaded = load_model(resolve(str(tmp_path)), quantization="none", device="cpu")
    assert loaded.model.config.text_config.hidden_size == 128
