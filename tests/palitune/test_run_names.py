"""Models named otherwise than by `--model_path`: a run of a grid, a base with its adapter."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from click.testing import CliRunner, Result

from models.checkpoint import resolve
from models.loading import load_family
from palitune.evaluate import evaluate_command
from palitune.main import palitune
from palitune.runs import resolve_model_options
from tests.experiments.grids import write_tables
from tests.helpers import sentence
from tests.models.tiny_families import maker

pytestmark = pytest.mark.usefixtures("no_java")
NAME = "qwen_vl_chat__lora_r16"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `results/grid/NAME`, trained for a step, and the tables it was trained on."""
    place = tmp_path_factory.mktemp("place")
    maker("llava")(place / "llava")
    tables = write_tables(place)
    words = [word for split in ("train", "test") for word in (f"--{split}_csv",
             tables[f"{split}_csv"])]  # fmt: skip
    result = invoke(
        "train", "csv_qa", *words, "--model_path", place / "llava", "--max_steps", 1,
        "--output_dir", place / "results" / "grid" / NAME, "--skip_evaluation",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return place


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(palitune, list(map(str, arguments)))


def evaluate(place: Path, *arguments: object) -> dict[str, Any]:
    folder = place / "scores" / str(len(list(place.glob("scores/*"))))
    options = ["--csv", place / "test.csv", "--max_new_tokens", 2, "--output_dir", folder]
    result = invoke("eval", *arguments, *options)
    assert result.exit_code == 0, result.output
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def test_a_run_is_found_by_its_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)  # results is one of the defaults of --runs_dir
    metrics = evaluate(place, "--run", NAME)
    assert metrics["task"] == "csv_qa"
    assert metrics["num_examples"] == 4
    assert {"exact_match", "sacrebleu", "METEOR", "ROUGE_L"} <= metrics["metrics"].keys()
    assert metrics["token_statistics"]["predictions"]
    assert Path(metrics["provenance"]["adapter"]).name == NAME


def test_a_base_and_its_adapter_are_named_apart(place: Path) -> None:
    metrics = evaluate(
        place,
        *("--model-id", place / "llava", "--lora-path", place / "results" / "grid" / NAME),
        *("--model-type", "llava", "--prompt-template", "Question: {query}\\nAnswer:"),
        *("--system-message", "Be brief."),
    )
    provenance = metrics["provenance"]
    assert provenance["prompt_template"] == "Question: {query}\nAnswer:"
    assert provenance["system_message"] == "Be brief."
    assert Path(provenance["adapter"]).name == NAME
    lines = (place / "scores").glob("*/predictions.jsonl")
    prompts = [json.loads(path.read_text().splitlines()[0])["prompt"] for path in lines]
    assert "Question: what colour is it?\nAnswer:" in prompts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--run", "qwen_vl_chat__lora_r8"), f"did you mean {NAME}?"),
        (("--run", NAME, "--model_path", "tiny"), "--run qwen_vl_chat__lora_r16 names the model"),
        (("--lora_path", "a"), "--lora_path goes with --model_path, its base"),
        (("--lora_path", "a", "--model_path", "b", "--base_model", "c"), "and no --base_model"),
        (("--model_path", "tiny"), "--task is missing; it is one of coco_captioning"),
    ],
)
def test_what_is_not_clear_is_one_sentence(
    place: Path, arguments: tuple[str, ...], message: str
) -> None:
    where = ("--runs_dir", place / "results") if "--run" in arguments else ()
    result = invoke("eval", *arguments, *where)
    assert result.exit_code == 2
    assert message in result.output


def test_a_name_that_two_runs_have_is_refused(tmp_path: Path) -> None:
    for grid in ("a", "b"):
        (tmp_path / grid / "run").mkdir(parents=True)
        (tmp_path / grid / "run" / "run.json").write_text("{}")
    result = CliRunner().invoke(
        evaluate_command(), ["--run", "run", "--runs_dir", str(tmp_path), "--task", "vqav2"]
    )
    assert result.exit_code == 2
    assert "2 runs are called run" in result.output


def test_a_run_is_looked_for_where_train_and_ablate_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/alone", "runs/demo/deep", "results/grid/cell"):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "run.json").write_text('{"task": "vqav2", "settings": {}}')
    for name, place in {"alone": "runs", "deep": "runs/demo", "cell": "results/grid"}.items():
        words = ["--run", name, "--task", "vqav2"]
        with evaluate_command().make_context("eval", words) as context:
            assert resolve_model_options(context.params)[1]["model_path"] == f"{place}/{name}"
    message = sentence(*_asked_for("other"))
    assert message == (
        "No run 'other' in runs or results, or a folder of it; there are alone, deep, cell."
    )
    shutil.copytree("runs/alone", "results/alone")
    message = sentence(*_asked_for("alone"))
    assert "2 runs are called alone: runs/alone, results/alone" in message
    assert "in results, or" in sentence(*_asked_for("deep", "--runs_dir", "results"))


def _asked_for(name: str, *options: str) -> tuple[int, str]:
    result = invoke("eval", "--run", name, "--task", "vqav2", *options)
    return result.exit_code, result.output


@pytest.mark.parametrize("inner", ["lora_weights", "lora_adapter", "final"])
def test_an_adapter_where_other_trainers_put_it_is_found(
    place: Path, tmp_path: Path, inner: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / inner).symlink_to(place / "results" / "grid" / NAME)
    checkpoint = resolve(str(tmp_path / "there"))
    assert checkpoint.adapter == tmp_path / "there" / inner


def test_a_checkpoint_is_read_as_its_run_says(place: Path) -> None:
    run = place / "results" / "grid" / NAME
    checkpoint = resolve(str(run / "checkpoints" / "checkpoint-1"))
    family = load_family(checkpoint)
    assert family.saved == str(run)
    metrics = evaluate(place, "--model_path", run / "checkpoints" / "checkpoint-1")
    assert metrics["task"] == "csv_qa"  # no --task was given
    assert metrics["provenance"]["quantization"] == "nf4"  # that of the training
    assert metrics["provenance"]["family"] == "llava"
    assert metrics["provenance"]["chat_template"].endswith("{% endif %}")


@pytest.mark.slow
def test_an_adapter_on_the_hub_is_fetched_and_scored(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, commit = place / "results" / "grid" / NAME, "1" * 40
    copy = tmp_path / "models--somebody--adapter"  # as it lies in the cache, once fetched
    shutil.copytree(run, copy / "snapshots" / commit, ignore=shutil.ignore_patterns("checkpoints"))
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    checkpoint = resolve("somebody/adapter", revision=commit)
    assert checkpoint.adapter == copy / "snapshots" / commit
    assert (checkpoint.base, checkpoint.revision) == (str(place / "llava"), None)
    metrics = evaluate(place, "--model_id", place / "llava", "--lora_path", "somebody/adapter")
    assert metrics["value"] == evaluate(place, "--model_path", run)["value"]
    assert metrics["provenance"]["adapter"] == str(copy / "snapshots" / commit)
    monkeypatch.chdir(tmp_path)  # what is measured of it is not left in the cache
    arguments = ("--csv", place / "test.csv", "--max_new_tokens", 2)
    assert invoke("eval", "--model_path", "somebody/adapter", *arguments).exit_code == 0
    assert (tmp_path / "runs/evaluation/adapter/csv_qa/csv_test/metrics.json").is_file()
    file = copy / "snapshots" / commit / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"task": "docvqa"}))
    with evaluate_command().make_context("eval", ["--model_path", "somebody/adapter"]) as context:
        assert resolve_model_options(context.params)[0].name == "docvqa"  # its own run.json says so
    arguments = ("--base_model", place / "llava", "--model_a", "somebody/adapter")
    assert invoke("merge", *arguments, "--model_b", run, "--dry_run").exit_code == 0
    with pytest.raises(ValueError, match="Model somebody/other is no folder here"):
        resolve("somebody/other")
    asked = read_configs(monkeypatch)
    resolve("somebody/adapter", revision=commit)
    resolve("somebody/adapter", base_model="a/base", revision="of the base")
    assert asked == [None, "of the base"]  # the commit was the adapter's


def test_a_model_without_adapter_has_none_to_leave_out(place: Path) -> None:
    words = ("eval", "--task", "csv", "--model_id", place / "llava", "--without_adapter")
    result = invoke(*words, "--csv", place / "val.csv")
    assert "is a model and no adapter; leave it out" in sentence(result.exit_code, result.output)


def test_a_lora_path_that_is_no_adapter_is_named(place: Path) -> None:
    model = place / "llava"
    result = invoke("eval", "--task", "csv", "--model_id", model, "--lora_path", model)
    assert result.exit_code == 2
    assert f"--lora_path {model} is no adapter" in result.output


def read_configs(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The revisions at which bases are read from now on, none of which need be there."""
    asked: list[str | None] = []

    def read_config(name: str, revision: str | None = None) -> Any:
        asked.append(revision)
        return {"model_type": "llava"}, None, revision

    monkeypatch.setattr("models.checkpoint.read_config", read_config)
    return asked


def test_the_revision_of_the_training_is_that_of_the_evaluation(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "results" / "grid" / NAME, run)
    record = json.loads((run / "run.json").read_text()) | {"base_revision": "0" * 40}
    (run / "run.json").write_text(json.dumps(record))
    asked = read_configs(monkeypatch)
    assert resolve(str(run)).revision == "0" * 40
    resolve(str(run), revision="other")
    resolve(str(run), base_model="another/base")
    assert asked == ["0" * 40, "other", None]


def test_a_table_of_its_own_is_scored_in_a_folder_of_its_own(place: Path) -> None:
    run = place / "results" / "grid" / NAME
    result = invoke("eval", "--model_path", run, "--csv", place / "val.csv", "--max_new_tokens", 2)
    assert result.exit_code == 0, result.output
    assert (run / "evaluation" / "csv_val" / "metrics.json").is_file()
    assert not (run / "evaluation" / "test").exists()


@pytest.mark.slow
def test_a_merge_is_fed_as_its_runs_were(place: Path, tmp_path: Path) -> None:
    maker("qwen2_vl")(tmp_path / "qwen")
    for seed, name in enumerate("ab"):
        result = invoke(
            "train", "csv_qa", "--train_csv", place / "train.csv", "--skip_evaluation",
            "--model_path", tmp_path / "qwen", "--image_size", 64, "--max_steps", 1,
            "--output_dir", tmp_path / name, "--seed", seed,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
    result = invoke(
        "merge", "--base_model", tmp_path / "qwen", "--model_a", tmp_path / "a", "--model_b",
        tmp_path / "b", "--output", tmp_path / "out", "--mode", "linear",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    saved = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert saved["square_side"] == 64
    result = invoke(
        "merge", "--base_model", tmp_path / "qwen", "--model_a", tmp_path / "a", "--output",
        tmp_path / "full",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    family = load_family(resolve(str(tmp_path / "full")))
    assert family.name == "qwen_vl"
    metrics = evaluate(place, "--model_path", tmp_path / "full", "--task", "csv")
    images = metrics["provenance"]["pictures"]
    assert images == {"size": {"shortest_edge": 4096, "longest_edge": 4096}, "square_side": 64}


@pytest.mark.parametrize(
    ("header", "typed", "expected"),
    [
        ("shot;ask;say", (), ("shot", "ask", "say")),
        ("shot;question;say", (), ("shot", None, "say")),  # what the table has not is not asked for
        ("shot;ask;say", ("--response_column", "ask"), ("shot", "ask", "ask")),
    ],
)
def test_the_columns_that_a_run_named_are_read_where_a_table_has_them(
    header: str, typed: tuple[str, ...], expected: tuple[str | None, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    named = {"image_column": "shot", "instruction_column": "ask", "response_column": "say"}
    (run / "run.json").write_text(json.dumps({"task": "csv_qa", "settings": named}))
    (run / "adapter_config.json").write_text("{}")
    (tmp_path / "t.csv").write_text(f"{header}\na.png;b;c\n")
    words = ["--model_path", str(run), "--csv", str(tmp_path / "t.csv"), *typed]
    with evaluate_command().make_context("eval", words) as context:
        values = resolve_model_options(context.params)[1]
    assert tuple(values[name] for name in named) == expected


def test_the_columns_are_looked_for_in_the_encoding_that_the_run_remembers(tmp_path: Path) -> None:
    settings = {"encoding": "cp949", "response_column": "대답"}
    (tmp_path / "run.json").write_text(json.dumps({"task": "csv_qa", "settings": settings}))
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "t.csv").write_text("image,query,대답\na.png,b,c\n", encoding="cp949")
    words = ["--model_path", str(tmp_path), "--csv", str(tmp_path / "t.csv")]
    with evaluate_command().make_context("eval", words) as context:
        values = resolve_model_options(context.params)[1]
    assert (values["encoding"], values["response_column"]) == ("cp949", "대답")
