"""The commands on tables: a guide's command line as written, its folder, and mistakes."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from PIL import Image

from finetuning.training.job import Job, load_data, load_selection
from finetuning.training.recipe import Recipe
from models.clip import load_clip
from tasks.base import MissingSplit, Source, TaskSource
from tasks.images import FileImage
from tasks.registry import get_task
from tests.helpers import hashes, read_json, read_lines, sentence
from tests.models.test_clip import make_clip
from tests.palitune.commands import run

QUERIES = ("dining room", "kitchen")


pytestmark = pytest.mark.usefixtures("no_java")


def write_tables(folder: Path) -> Path:
    """QuIC-360 in small: per split two panoramas, two queries each, the first with two captions."""
    folder.mkdir()
    for split in ("train", "valid", "test"):
        rows = []
        for number in range(2):
            name = f"{split}_{number}.jpg"
            Image.new("RGB", (64, 32), ("red", "blue")[number]).save(folder / name)
            url = f"https://live.example.org/65535/{name}"
            rows += [(url, query, f"a {query}, number {number}") for query in QUERIES]
            rows.append((url, QUERIES[0], "식당 테이블"))
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows([("url", "query", "annotation"), *rows])
    return folder


def tables(folder: Path) -> tuple[object, ...]:
    return (
        *("--train_csv", folder / "train.csv", "--val_csv", folder / "valid.csv"),
        *("--test_csv", folder / "test.csv"),
    )


# as the guide has it; the model and the device are this machine's
GUIDE = (
    *("--epochs", 3, "--batch_size", 4, "--learning_rate", 2e-4, "--lora_rank", 16),
    *("--image_column", "url", "--instruction_column", "query"),
    *("--response_column", "annotation", "--max_length", 512, "--save_steps", 500),
    *("--logging_steps", 10, "--max_new_tokens", 128, "--num_viz_samples", 3, "--device", "cpu"),
)


@pytest.fixture(scope="module")
def trained(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables in `data` and the guide's run on them in `run`, not scored yet."""
    folder = tmp_path_factory.mktemp("quic360")
    write_tables(folder / "data")
    arguments = (*tables(folder / "data"), "--output_dir", folder / "run", *GUIDE)
    run("quic360", *arguments, "--model_path", pico1, "--skip_evaluation")
    return folder


def test_skip_evaluation_trains_and_scores_nothing(trained: Path) -> None:
    settings = read_json(trained / "run/run.json")["settings"]
    assert (settings["num_epochs"], settings["lora_dropout"]) == (3, 0.1)
    # 4 (image, query) pairs in one batch, three times
    assert read_json(trained / "run/trainer_state.json")["global_step"] == 3
    assert (trained / "run/adapter_model.safetensors").is_file()
    assert not (trained / "run/evaluation").exists()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


def expect_clip_scores(folder: Path, clip: Path) -> None:
    """Check a folder's CLIP-S and RefCLIP-S against its cleaned predictions, one by one."""
    import torch

    scorer = load_clip(str(clip), device="cpu")

    def text(words: str) -> torch.Tensor:
        return scorer.embed_texts([words])

    clip_s, ref_clip_s = [], []
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            said = text(row["prediction"])
            seen = scorer.embed_images([FileImage(row["image"])])
            closest = max(
                torch.cosine_similarity(said, text(reference)).item()
                for reference in json.loads(row["references"])
            )
            clip_s.append(2.5 * max(0.0, torch.cosine_similarity(said, seen).item()))
            both = (clip_s[-1], max(0.0, closest))
            ref_clip_s.append(2 * both[0] * both[1] / sum(both) if all(both) else 0.0)
    metrics = read_json(folder / "metrics.json")
    assert metrics["clip_metrics"]["CLIP-S"] == pytest.approx(fmean(clip_s), abs=1e-5)
    assert metrics["clip_metrics"]["RefCLIP-S"] == pytest.approx(fmean(ref_clip_s), abs=1e-5)
    assert fmean(clip_s) > 0
    assert metrics["clip_model"] == str(clip)


@pytest.mark.parametrize(
    "options",
    ["--dry_run", "--overwrite", "--max_steps 100", "--learning_rate 1", "--use_wandb",
     "--quantization none", "--model_path tiny"],
)  # fmt: skip
def test_skip_training_refuses_what_it_would_not_read(trained: Path, options: str) -> None:
    before = hashes(trained / "run")
    words = (*tables(trained / "data"), "--output_dir", trained / "run", *GUIDE)
    result = run("quic360", *words, "--skip_training", *options.split(), exit_code=2)
    message = sentence(result.exit_code, result.output)
    assert f"takes no {options.split()[0]};" in message
    cold = ("--skip_training", "--temperature", "0.5")
    assert "temperature would change nothing" in run("quic360", *words, *cold, exit_code=2).output
    assert hashes(trained / "run") == before


def test_skip_training_scores_the_run_and_leaves_what_the_guide_promises(
    trained: Path, clip: Path
) -> None:
    before = hashes(trained / "run", leave_out="evaluation")
    arguments = (*tables(trained / "data"), "--output_dir", trained / "run", *GUIDE)
    result = run("quic360", *arguments, "--skip_training", "--clip_model", clip)
    assert "quic360, split 'test', 4 examples" in result.output
    assert hashes(trained / "run", leave_out="evaluation") == before
    folder = trained / "run/evaluation/test"
    metrics = read_json(folder / "metrics.json")
    assert metrics["metric"] == "CIDEr"
    assert metrics["provenance"]["trained_on"] == ["quic360"]
    assert metrics["provenance"]["decoding"]["max_new_tokens"] == 128
    assert metrics["provenance"]["quantization"] == "nf4"
    names = {"CIDEr", "Bleu_4", "sacrebleu", "METEOR", "ROUGE_L", "rouge_l", "SPICE", "exact_match"}
    assert names <= metrics["metrics"].keys()
    assert metrics["token_statistics"]["references"]["num_texts"] == 6
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    ours = read_lines(folder / "predictions.jsonl")
    assert [row["prediction"] for row in written] == [row["prediction"] for row in ours]
    assert [row["raw_prediction"] for row in written] == [row["raw_prediction"] for row in ours]
    assert json.loads(written[0]["references"]) == ["a dining room, number 0", "식당 테이블"]
    assert written[0]["instruction"] == "dining room"
    assert written[0]["image"] == str(trained / "data/test_0.jpg")
    drawn = sorted(path.name for path in (folder / "visualizations").iterdir())
    assert drawn == [f"sample_00{number}.png" for number in range(3)]
    expect_clip_scores(folder, clip)


def test_eval_scores_a_table_named_by_csv(trained: Path, tmp_path: Path) -> None:
    result = run(
        *("eval", "--task", "csv", "--csv", trained / "data/valid.csv"),
        *("--model_path", trained / "run", "--max_new_tokens", 4, "--output_dir", tmp_path),
        *("--num_viz_samples", 1),
    )
    assert "csv_qa, split 'test', 6 examples" in result.output
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["metric"] == "rouge_l"
    assert (tmp_path / "visualizations/sample_000.png").is_file()


def test_a_file_of_predictions_is_scored_on_a_table_without_images(
    trained: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t.jsonl"
    rows = [{"image": f"{n}.jpg", "instruction": "?", "response": f"red {n}"} for n in range(2)]
    table.write_text("\n".join(map(json.dumps, rows)))
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps([{"id": 1, "prediction": "red 0"}, {"id": 2, "prediction": "x"}]))
    arguments = ("--task", "csv_qa", "--csv", table, "--predictions", answers)
    result = run("eval", *arguments, "--output_dir", tmp_path / "out")
    assert read_json(tmp_path / "out/metrics.json")["value"] == 0.5, result.output
    # drawing needs them
    result = run("eval", *arguments, "--num_viz_samples", 1, exit_code=2)
    assert "2 of the 2 images" in result.output


def test_a_table_trains_csv_qa_and_its_test_table_is_scored(
    trained: Path, pico1: Path, clip: Path, tmp_path: Path
) -> None:
    result = run(
        *("csv_qa", *tables(trained / "data"), "--model_path", pico1, "--max_new_tokens", 4),
        *("--output_dir", tmp_path / "run", "--max_steps", 1, "--lora_rank", 4),
        *("--clip_model", clip, "--num_beams", 2, "--min_new_tokens", 1),
    )
    assert "csv_qa, split 'test', 6 examples" in result.output
    expect_clip_scores(tmp_path / "run/evaluation/test", clip)
    assert not (tmp_path / "run/evaluation/val").exists()
    assert not (tmp_path / "run/evaluation/test/visualizations").exists()
    # the run's own way to answer counts, unless another is given
    again = ("csv_qa", *tables(trained / "data"), "--output_dir", tmp_path / "run")
    run(*again, "--skip_training")
    evaluate = ("eval", "--csv", trained / "data/test.csv", "--model_path", tmp_path / "run")
    run(*evaluate, "--num_beams", 1, "--min_new_tokens", 0, "--do_sample", "--seed", 7)
    decodings = [
        read_json(tmp_path / f"run/evaluation/{name}/metrics.json")["provenance"]["decoding"]
        for name in ("test", "csv_test")
    ]
    drawn = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "seed": 7}
    assert decodings == [
        {"max_new_tokens": 4, "num_beams": 2, "min_new_tokens": 1, "do_sample": False},
        {"max_new_tokens": 4, "num_beams": 1, "min_new_tokens": 0, **drawn},
    ]


def job(folder: Path, recipe: Recipe, *names: str) -> Job:
    files = {name.replace("valid", "val"): folder / f"{name}.csv" for name in names}
    return Job(
        tasks=(TaskSource(get_task("quic360"), Source(tables=files)),),
        model_path="tiny",
        recipe=recipe,
        output_dir=folder,
        settings={},
    )


def test_checkpoints_are_chosen_on_the_val_table_and_the_end_is_scored_on_the_test_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tables(tmp_path / "data")
    monkeypatch.chdir(tmp_path)  # there is no data/quic360
    scoring = Recipe(eval_steps=1)

    def splits(recipe: Recipe, *names: str) -> tuple[Any, Any]:
        single = job(folder, recipe, "train", *names)
        (pair,) = single.tasks
        _, end = load_data(pair, recipe)
        chosen = load_selection(pair, recipe, end)
        return chosen and chosen.split, end and end.split

    assert splits(scoring, "valid", "test") == ("val", "test")
    assert splits(Recipe(eval_epochs=True), "valid", "test") == ("val", "test")
    assert splits(scoring, "valid") == ("val", "val")
    with pytest.raises(MissingSplit, match=r"split 'val'.*never on what is scored at the end"):
        splits(scoring, "test")
    assert splits(replace(scoring, eval_split="val"), "valid", "test") == ("val", "val")
    assert splits(replace(scoring, skip_evaluation=True), "valid", "test") == ("val", "test")
    # where nothing is scored on the way, no table but that of the end is read
    assert splits(Recipe(), "test") == ("test", "test")
    assert splits(Recipe()) == (None, None)
    assert splits(Recipe(skip_evaluation=True), "valid", "test") == (None, None)


MISTAKES = {
    "no such table": ("csv_qa --train_csv no.csv", ("The table no.csv does not exist",)),
    "no table": ("csv_qa", ("csv_qa split 'train'", "--train_csv")),
    "column": ("csv_qa --train_csv t.csv --response_column captoin", ("did you mean caption?",)),
    "commas": ("csv_qa --train_csv t.csv --response_column caption", ("1 line(s): 3;",)),
    "picture": (
        "csv_qa --train_csv t.csv --response_column caption --csv_lenient",
        ("1 of the 1 images", "a.jpg"),
    ),
    "nothing to do": (
        "quic360 --skip_training --skip_evaluation",
        ("--skip_training and --skip_evaluation leave nothing to do",),
    ),
    "nothing to score": (
        "quic360 --skip_training --output_dir none",
        ("--skip_training scores the run in --output_dir", "none holds none"),
    ),
    "official files": (
        "eval --task vqav2 --csv t.csv --model_path tiny",
        ("vqav2 has official files", "csv_qa and quic360"),
    ),
    "no CLIP": (
        "quic360 --data_root . --clip_model tiny --train_csv good.csv",
        ("tiny is not a CLIP model", "paligemma"),
    ),
    "template of another encoding": (
        "quic360 --chat_template korean.jinja --train_csv good.csv",
        ("--chat_template korean.jinja is not UTF-8",),
    ),
    "draw less than none": ("quic360 --num_viz_samples -1", ("num_viz_samples",)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("image,query,caption\na.jpg,?,x\na.jpg,?,one, two\n")
    (tmp_path / "good.csv").write_text("url,query,annotation\na.png,?,x\n")
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png")
    (tmp_path / "korean.jinja").write_bytes("식당".encode("euc-kr"))
    arguments, parts = MISTAKES[name]
    command, *options = arguments.split()
    model = () if command == "eval" else ("--model_path", "tiny")
    result = run(command, *options, *model, exit_code=2)
    last = result.output.rstrip().splitlines()[-1]
    assert last.startswith("Error: ") and last.endswith("."), result.output
    assert all(part in last for part in parts), last
    assert not (tmp_path / "runs").exists()


def test_columns_and_leniency_reach_the_table(
    tmp_path: Path, pico1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_text("image,query,caption\na.jpg,?,x\na.jpg,?,one, two\n")
    answers = tmp_path / "answers.json"
    answers.write_text(
        json.dumps([{"id": 2, "prediction": "x"}, {"id": 3, "prediction": "one, two"}])
    )
    result = run(
        *("eval", "--task", "csv_qa", "--csv", "t.csv", "--predictions", answers),
        *("--response_column", "caption", "--csv_lenient", "--output_dir", "out"),
    )
    assert read_json(tmp_path / "out/metrics.json")["metrics"]["exact_match"] == 1, result.output
