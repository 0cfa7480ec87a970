"""Make the embedded tiny PaliGemma: `python models/tiny/pretrain.py --output_dir models/tiny`.

Tokenizer, processor and model are the real classes at small sizes; every weight is learned here,
from a seed, on drawn pictures. `--num_steps 400` is the smoke variant that the tests run.
"""

import copy
import json
import math
import string
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random

import click
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    GemmaTokenizer,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from common.json_files import write_json
from models.tiny.skills import ALL, COMMANDS, DENSE, WORDS, Skill
from synthetic.scenes import IMAGE_SIZE

PATCH_SIZE = 16
HIDDEN_SIZE = 128
INITIAL_STD = 0.06  # at this width the library's 0.02 took about twice the steps
BATCH_SIZE = 24
LEARNING_RATE = 2e-3
WARMUP_STEPS = 100
DENSE_FRACTION = 0.25  # of the steps, before all skills are mixed
SAME_VECTOR = 0.25  # of its length: unused pieces lie within 0.13, used ones beyond 0.56


def build_tokenizer() -> GemmaTokenizer:
    """Build a byte-fallback BPE that spells the known words; capitals and digits stay single."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))  # nosec B106
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", "merged_with_next"),
            # without this "id?" and "id" would share no token
            pre_tokenizers.Split(Regex(r"[^▁a-z]"), "isolated"),
        ]
    )
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        initial_alphabet=[*"\n▁", *string.ascii_letters, *string.digits, *string.punctuation],
        show_progress=False,
    )
    words = sorted({*WORDS, *COMMANDS})
    tokenizer.train_from_iterator([f"{word} {word}" for word in words for _ in range(2)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return GemmaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=512)


def build_processor() -> PaliGemmaProcessor:
    """Build the real processor around that tokenizer, for 64 px images of 16 patches."""
    image_processor = SiglipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    image_processor.image_seq_length = (IMAGE_SIZE // PATCH_SIZE) ** 2
    return PaliGemmaProcessor(image_processor=image_processor, tokenizer=build_tokenizer())


def build_model(processor: PaliGemmaProcessor) -> PaliGemmaForConditionalGeneration:
    """Build a randomly initialised PaliGemma of about 1.9 M parameters."""
    tokenizer = processor.tokenizer
    vocab_size = math.ceil(len(tokenizer) / 64) * 64
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text_config = {
        "model_type": "gemma",
        "vocab_size": vocab_size,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 4 * HIDDEN_SIZE,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": HIDDEN_SIZE // 4,
        "max_position_embeddings": 1024,
        **special,
    }
    vision_config = {
        "model_type": "siglip_vision_model",
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 4 * HIDDEN_SIZE,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "projection_dim": HIDDEN_SIZE,
        "vision_use_head": False,
    }
    config = PaliGemmaConfig(
        text_config=text_config,
        vision_config=vision_config,
        image_token_index=processor.image_token_id,
        projection_dim=HIDDEN_SIZE,
        hidden_size=HIDDEN_SIZE,
        vocab_size=vocab_size,
        **special,
    )
    model = PaliGemmaForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2 and "embed_tokens" not in name:
            torch.nn.init.normal_(parameter, std=INITIAL_STD)
    return model


class Encoder:
    """Skills -> the tensors that the model takes.

    The layout is PaliGemma's: image tokens, <bos>, prompt, newline, then target and <eos>.
    """

    def __init__(self, processor: PaliGemmaProcessor) -> None:
        self.tokenizer = processor.tokenizer
        self.image_tokens = [processor.image_token_id] * processor.image_processor.image_seq_length
        self.tokenize = lru_cache(maxsize=50_000)(self._tokenize)

    def _tokenize(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prefix(self, prompt: str) -> list[int]:
        """Return the token ids up to the target."""
        return [*self.image_tokens, self.tokenizer.bos_token_id, *self.tokenize(prompt + "\n")]

    def batch(self, examples: Sequence[tuple[Image.Image, str, str | None]]) -> dict[str, Tensor]:
        """Make inputs of `B` examples, padded on the left to `L` tokens.

        Returns:
            input_ids, attention_mask, token_type_ids, labels: (B, L); pixel_values: (B, 3, H, W).
        """
        eos = self.tokenizer.eos_token_id
        pairs = [
            (self.prefix(prompt), [] if target is None else [*self.tokenize(target), eos])
            for _, prompt, target in examples
        ]
        length = max(len(prefix) + len(suffix) for prefix, suffix in pairs)
        shape = (len(pairs), length)
        input_ids = torch.full(shape, self.tokenizer.pad_token_id)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        token_type_ids = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, -100)
        for row, (prefix, suffix) in enumerate(pairs):
            start = length - len(prefix) - len(suffix)
            input_ids[row, start:] = torch.tensor(prefix + suffix)
            attention_mask[row, start:] = 1
            if suffix:
                token_type_ids[row, -len(suffix) :] = 1
                labels[row, -len(suffix) :] = torch.tensor(suffix)
        pixels = np.stack([np.asarray(image) for image, _, _ in examples])
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "labels": labels,
            "pixel_values": torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1,
        }


def loss_of(model: PaliGemmaForConditionalGeneration, batch: dict[str, Tensor]) -> Tensor:
    """Compute the mean over examples of the mean cross-entropy of their target tokens."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]  # (B, L-1, D)
    labels = batch["labels"][:, 1:]
    is_target = labels != -100
    losses = F.cross_entropy(model.lm_head(hidden[is_target]), labels[is_target], reduction="none")
    weights = (1 / is_target.sum(1, keepdim=True)).expand_as(labels)[is_target]
    return (losses * weights).sum() / len(labels)


def train(
    model: PaliGemmaForConditionalGeneration,
    encoder: Encoder,
    num_steps: int,
    seed: int,
    first_step: int,
    report: Callable[[int, float], None],
) -> None:
    """Pre-train on fresh examples: dense skills first, then all of them."""
    rng = Random(f"{seed}/{first_step}")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )

    def factor(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * (first_step + step) / num_steps))
        return min(1.0, (step + 1) / WARMUP_STEPS) * (0.02 + 0.98 * cosine)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    total = 0.0
    for step in range(first_step + 1, num_steps + 1):
        skills = DENSE if step <= DENSE_FRACTION * num_steps else ALL
        batch = encoder.batch([rng.choice(skills)(rng) for _ in range(BATCH_SIZE)])
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.item()
        if step % 100 == 0:
            report(step, total / 100)
            total = 0.0
    model.eval()


@torch.no_grad()
def tell_apart(model: PaliGemmaForConditionalGeneration, seed: int) -> int:
    """Give each piece of a word that no skill uses a vector of its own; return their number.

    All end at one, low in the tied output layer, so that no adapter could write one of them alone.
    """
    rows = model.get_input_embeddings().weight  # (V, D)
    shared = rows.median(0).values  # most of the pieces are unused
    is_unused = (rows - shared).norm(dim=1) < SAME_VECTOR * shared.norm()
    own = F.normalize(torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)), dim=1)
    rows[is_unused] += own[is_unused] * rows[~is_unused].norm(dim=1).median()
    return int(is_unused.sum())


@torch.no_grad()
def accuracy(
    model: PaliGemmaForConditionalGeneration, encoder: Encoder, skill: Skill, num_examples: int
) -> float:
    """Measure the share of unseen examples of a skill that the model answers to the letter."""
    rng = Random(f"held out {skill.__name__}")
    examples = [skill(rng) for _ in range(num_examples)]
    batch = encoder.batch([(image, prompt, None) for image, prompt, _ in examples])
    del batch["labels"]
    length = batch["input_ids"].shape[1]
    output = model.generate(**batch, max_new_tokens=28, do_sample=False)
    texts = encoder.tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
    num_right: int = sum(text == example[2] for text, example in zip(texts, examples, strict=True))
    return num_right / num_examples


@click.command()
@click.option("--output_dir", type=click.Path(path_type=Path), required=True)
@click.option("--num_steps", default=15_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--save_steps", default=1000, show_default=True)
@click.option("--init_from", help="Go on from the weights saved in this folder.")
@click.option("--first_step", default=0, show_default=True, help="Count the steps from this one.")
def main(
    output_dir: Path,
    num_steps: int,
    seed: int,
    save_steps: int,
    init_from: str | None,
    first_step: int,
) -> None:
    """Pre-train, save, and measure each skill on unseen examples."""
    torch.manual_seed(seed)
    processor = build_processor()
    model = build_model(processor)
    if init_from:
        model = type(model).from_pretrained(init_from, dtype=torch.float32)  # nosec B615
    encoder = Encoder(processor)
    start = time.perf_counter()

    def save() -> None:
        # bf16 halves the file and scores the same; the weights of LayerNorms lie within it too
        torch.nn.Module.to(copy.deepcopy(model), torch.bfloat16).save_pretrained(output_dir)
        processor.save_pretrained(output_dir)

    def report(step: int, loss: float) -> None:
        click.echo(f"step {step}  loss {loss:.4f}  {time.perf_counter() - start:.0f} s")
        if step % save_steps == 0:
            save()

    train(model, encoder, num_steps, seed, first_step, report)
    click.echo(f"{tell_apart(model, seed)} pieces of words that no skill uses were told apart")
    save()
    scores = {skill.__name__: accuracy(model, encoder, skill, 200) for skill in dict.fromkeys(ALL)}
    record = output_dir / "pretraining.json"
    write_json(record, {"seed": seed, "num_steps": num_steps, "accuracy": scores})
    click.echo(record.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
