"""Examples answered a second: ours beside one at a time and beside naive batches, in one run.

    python benchmarks/evaluate.py             # on a CPU, a quarter of an hour
    python benchmarks/evaluate.py --tiny      # a few examples, once: tries the script out

The same examples, encoded alike, by the same model. The plain ways call the library's `generate`
on one example, or on so many in the order of the split. Each round runs all ways, ours first and
then ours last; a row has the median of the rounds, and all ways must give the same answers.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import click
import torch
import transformers
from msgspec.structs import replace

import palitune  # noqa: F401  # sets the process up as the commands do
from common.json_files import write_json
from common.terminal_table import align
from evaluation.prediction import make_predictor
from evaluation.prompting import Prompter, make_prompter
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from tasks.base import Example
from tasks.registry import get_task
from tasks.sample import sample_source

NUM_IMAGES = 96  # times five questions; with one question each five times as many
QUESTIONS = (5, 1)
NAIVE_BATCH = 32
HEAD = ("family", "base", "questions an image", "ours")
FIGURES = ("examples_s", "x_one", "x_naive")

Answer = Callable[[Sequence[Example]], list[str]]


def save_llava(folder: Path) -> Path:
    """Save a random LLaVA of the embedded model's size: a chat format over a Llama."""
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessorPil,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    tiny = resolve("tiny").base
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    size = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
    words = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id")}
    text = {
        "model_type": "llama",
        "num_hidden_layers": 4,
        "num_key_value_heads": 1,
        **size,
        **words,
    }
    text |= {"vocab_size": -(-len(tokenizer) // 64) * 64, "eos_token_id": tokenizer.eos_token_id}
    tower = {"model_type": "siglip_vision_model", "num_hidden_layers": 3, **size}
    torch.manual_seed(0)
    config = LlavaConfig(
        text_config=text,
        vision_config=tower | {"image_size": 64, "patch_size": 16, "vision_use_head": False},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    model = LlavaForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.dim() >= 2:  # the library's 0.02 leaves all logits nearly equal
            torch.nn.init.normal_(parameter, std=0.1)
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    for part in (model, tokenizer, images):
        part.save_pretrained(folder)
    return folder


def examples(num_questions: int, num_images: int) -> list[Example]:
    """Ask this many questions of the embedded split about each of its first images."""
    task = get_task("vqav2")
    split = list(task.load("val", sample_source(task)))
    images = list(dict.fromkeys(example.image for example in split))
    asked = [split[place % len(split)] for place in range(num_questions * num_images)]
    return [
        replace(example, example_id=place, image=images[place // num_questions % len(images)])
        for place, example in enumerate(asked)
    ]


def plainly(loaded: LoadedModel, prompter: Prompter, batch_size: int) -> Answer:
    """Return what answers by the library's `generate`, so many examples at once."""
    family, model = loaded.family, loaded.model
    most = get_task("vqav2").max_new_tokens

    def answer(asked: Sequence[Example]) -> list[str]:
        texts: list[str] = []
        for start in range(0, len(asked), batch_size):
            batch = family.collate([prompter.encode(e) for e in asked[start : start + batch_size]])
            inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
            output = model.generate(**inputs, max_new_tokens=most, do_sample=False)
            new = output[:, inputs["input_ids"].shape[1] :]
            decoded = family.tokenizer.batch_decode(new, skip_special_tokens=True)
            texts += [text.strip() for text in decoded]
        return texts

    return answer


def seconds_of(answer: Answer, asked: Sequence[Example]) -> tuple[float, list[str]]:
    """Return how long it takes to answer, and the answers."""
    start = time.perf_counter()
    texts = [text.strip() for text in answer(asked)]
    return time.perf_counter() - start, texts


def rows_of(
    name: str, loaded: LoadedModel, base: str, num_images: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """Measure all ways on five questions an image and on one, ours first and ours last."""
    task = get_task("vqav2")
    prompter = make_prompter(task, loaded.family)
    ways: dict[str, Answer] = {
        "ours": make_predictor(loaded.model, task, prompter, batch_size="auto"),
        "one": plainly(loaded, prompter, 1),
        "naive": plainly(loaded, prompter, NAIVE_BATCH),
    }
    for num_questions in QUESTIONS:
        asked = examples(num_questions, num_images * max(QUESTIONS) // num_questions)
        for answer in ways.values():
            answer(asked[:NAIVE_BATCH])  # warm
        for place, order in (("first", list(ways)), ("last", list(reversed(ways)))):
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                answers = {}
                for way in order:
                    seconds, answers[way] = seconds_of(ways[way], asked)
                    times[way].append(seconds)
                if not answers["ours"] == answers["one"] == answers["naive"]:
                    raise click.ClickException(f"{name}: the ways answer differently; no row.")
            middle = {way: median(values) for way, values in times.items()}
            cells = (name, base, num_questions, place)
            yield dict(zip(HEAD, cells, strict=True)) | {
                "examples_s": len(asked) / middle["ours"],
                "x_one": median(o / u for o, u in zip(times["one"], times["ours"], strict=True)),
                "x_naive": median(
                    n / u for n, u in zip(times["naive"], times["ours"], strict=True)
                ),
                "load": os.getloadavg()[0],
            }


@click.command()
@click.option("--tiny", is_flag=True, help="Answer a few examples once, to try the script.")
@click.option("--rounds", default=5, show_default=True, help="Take the median of this many.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
def main(tiny: bool, rounds: int, output: Path | None) -> None:
    """Print examples a second, and how many times those of the plain ways that is."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    about = f"{versions}, {torch.get_num_threads()} threads"
    click.echo(about)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        llava = save_llava(Path(folder))
        for name, place, base in (
            ("paligemma", "tiny", "none"),
            ("paligemma", "tiny", "nf4"),
            ("llava", str(llava), "none"),
        ):
            loaded = load_model(resolve(place), quantization=base, device="cpu")  # type: ignore
            sizes = (2, 1) if tiny else (NUM_IMAGES, rounds)
            for row in rows_of(name, loaded, base, *sizes):
                rows.append(row)
                cells = [*HEAD, *FIGURES, "load"]
                click.echo("  ".join(_cell(row[name]) for name in cells))
                if output is not None:
                    write_json(output, {"about": about, "rows": rows})
    names = [*HEAD, *FIGURES, "load"]
    table = [names, *([_cell(row[name]) for name in names] for row in rows)]
    click.echo("\n" + align(table, left=(0, 1, 3)))


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
