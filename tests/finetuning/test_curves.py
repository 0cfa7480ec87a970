"""The curves of a run, the examples it watches, and what the trackers get of both."""

import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from evaluation.page_content import read_evaluation
from evaluation.report_page import PAGE
from evaluation.training_log import describe, in_words, make_curves, read_curves, read_watched
from finetuning.training.curves_chart import CURVES, write_curves
from finetuning.training.run import finetune
from finetuning.training.tracker_names import add_tracker, check_trackers, tracker_names
from tasks.registry import get_task
from tests.finetuning.training_jobs import job
from tests.helpers import one_sentence, read_json, read_lines

EVERY = {"max_steps": 6, "eval_steps": 2, "max_eval_samples": 12}


@pytest.fixture(scope="module")
def run(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves") / "run"
    finetune(job(pico1, folder, **EVERY, report_to="tensorboard"))
    return folder


def page_of(run: Path) -> Any:
    text = (run / "evaluation" / "val" / PAGE).read_text()
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script>", start)])


def test_the_curves_are_the_figures_of_the_log(run: Path) -> None:
    history = read_json(run / "trainer_state.json")["log_history"]
    curves = read_curves(run)
    assert curves is not None
    losses = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    assert curves.loss == losses and [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    norms = [(entry["step"], entry["grad_norm"]) for entry in history if "loss" in entry]
    assert curves.gradient_norm == norms
    (accuracy,) = curves.scores
    scored = [(e["step"], e["eval_accuracy"]) for e in history if "eval_accuracy" in e]
    assert [(point.step, point.value) for point in accuracy.points] == scored
    assert [step for step, _ in scored] == [2, 4, 6]
    assert curves.best_step == read_json(run / "trainer_state.json")["best_global_step"]
    metrics = read_json(run / "evaluation" / "val" / "metrics.json")
    assert accuracy.final is not None and accuracy.final.value == metrics["value"]
    assert list(accuracy.final.interval or ()) == metrics["uncertainty"]["interval_95"]
    assert accuracy.final.step == curves.best_step


def test_a_scoring_on_the_way_has_the_interval_of_its_own_scores(run: Path) -> None:
    curves = read_curves(run)
    assert curves is not None
    for point in curves.scores[0].points:
        # of 12 answers that are right or wrong the standard error is sqrt(p (1 - p) / 11)
        share = point.value / 100
        error = 100 * math.sqrt(share * (1 - share) / 11)
        assert point.interval is not None
        low, high = point.interval
        assert low <= point.value <= high
        # of 12 answers that are all right or all wrong, 1 - 0.025 ** (1 / 12) may differ
        width = 2 * 1.96 * error or 26.465
        assert high - low == pytest.approx(width, abs=9 if error else 1e-3)  # steps of 100 / 12


def test_the_image_has_a_panel_a_curve(run: Path) -> None:
    image = Image.open(run / CURVES)
    assert image.size == (1040, 600)  # accuracy, loss, learning rate, gradient norm
    card = (run / "README.md").read_text()
    assert "](curves.png)" in card and "![Loss " in card and "at the end “" in card


def test_a_score_at_the_end_alone_is_no_panel(tmp_path: Path) -> None:
    losses = [{"step": step, "loss": 4.0 / step} for step in (1, 2)]
    scored = [{"step": 2, "final_accuracy": 50.0}]
    state = SimpleNamespace(log_history=losses + scored, best_global_step=None)
    curves = write_curves(state, [get_task("digits")], tmp_path)  # type: ignore[arg-type]
    assert Image.open(tmp_path / CURVES).size == (520, 300)  # the loss
    assert describe(curves) == "Loss 4 at step 1, 2 at step 2. accuracy: at the end 50."
    assert in_words(curves) == ["accuracy: at the end 50."]
    # of one logged step no older image stays
    state = SimpleNamespace(log_history=losses[:1] + scored, best_global_step=None)
    curves = write_curves(state, [get_task("digits")], tmp_path)  # type: ignore[arg-type]
    assert not (tmp_path / CURVES).exists()
    assert in_words(curves) == ["Loss 4 at step 1.", "accuracy: at the end 50."]


def test_eight_examples_are_watched_and_their_answers_are_those_of_the_scorings(run: Path) -> None:
    scorings = read_watched(run)
    assert [(s.step, s.is_final) for s in scorings[:3]] == [(2, False), (4, False), (6, False)]
    ids = [answer.id for answer in scorings[0].answers]
    assert len(set(ids)) == 8
    assert all([a.id for a in scoring.answers] == ids for scoring in scorings)
    found = {row["id"]: row for row in read_lines(run / "evaluation" / "val" / "predictions.jsonl")}
    final = scorings[-1]
    assert final.is_final and len(scorings) == 4
    for answer in final.answers:
        row = found[answer.id]
        assert answer.prediction == row["prediction"] and answer.score == row["score"]
        assert list(answer.references) == row["references"] and answer.question == row["question"]
    # the adapter that is kept answered as it did at the best scoring
    (best,) = [s for s in scorings[:3] if s.step == final.step]
    assert best.answers == final.answers and best.value == final.value


def test_the_page_shows_the_training(run: Path) -> None:
    (training,) = page_of(run)["trainings"]
    curves = read_curves(run)
    assert curves is not None
    assert [tuple(pair) for pair in training["curves"]["loss"]] == curves.loss
    assert training["columns"] == ["step 2", "step 4", "step 6", "this evaluation"]
    assert len(training["watched"]) == 8
    scorings = read_watched(run)
    for place, example in enumerate(training["watched"]):
        expected = [scoring.answers[place].prediction for scoring in scorings]
        assert [answer[0] for answer in example["answers"]] == expected
        assert example["image"] is not None


def test_a_resumed_run_has_one_whole_curve_and_the_same_examples(
    pico1: Path, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    finetune(job(pico1, folder, **EVERY | {"max_steps": 3}))
    watched = read_watched(folder)
    assert [scoring.step for scoring in watched if not scoring.is_final] == [2, 3]
    # a course that was left: the resumed run scores step 4 itself
    lost = (folder / "watched.jsonl").read_text().splitlines()[0].replace('"step":2', '"step":5')
    (folder / "watched.jsonl").write_text((folder / "watched.jsonl").read_text() + lost + "\n")
    record = read_json(folder / "run.json")
    del record["chosen_by"]  # an earlier version let a run go on by the scores of other examples
    (folder / "run.json").write_text(json.dumps(record))
    finetune(job(pico1, folder, **EVERY | {"max_eval_samples": 11}, resume=True))
    curves = read_curves(folder)
    assert curves is not None
    assert [step for step, _ in curves.loss] == [1, 2, 3, 4, 5, 6]
    assert [point.step for point in curves.scores[0].points] == [2, 3, 4, 6]
    resumed = read_watched(folder)
    assert [scoring.step for scoring in resumed if not scoring.is_final] == [2, 3, 4, 6]
    ids = {answer.id for answer in watched[0].answers}
    assert all({a.id for a in scoring.answers} <= ids for scoring in resumed)
    shared = Counter(len(scoring.answers) for scoring in resumed)
    assert set(shared) <= {7, 8}  # 11 examples of the 12 lack one at most


def test_an_evaluation_outside_a_run_has_no_training(run: Path, tmp_path: Path) -> None:
    from evaluation.page_training import watched_ids
    from evaluation.report_page import join_pages

    place = run / "evaluation" / "val"
    assert watched_ids(place) and read_evaluation(place).lines
    for name in ("predictions.jsonl", "metrics.json"):
        (tmp_path / name).write_bytes((place / name).read_bytes())
    assert join_pages([tmp_path], tmp_path / "out.html").trainings == []
    joined = join_pages([place, tmp_path], tmp_path / "both.html")
    assert [training.name for training in joined.trainings] == ["A"]


def test_a_run_without_scorings_watches_the_examples_at_the_end(
    pico1: Path, tmp_path: Path
) -> None:
    finetune(job(pico1, tmp_path, max_steps=2))
    (scoring,) = read_watched(tmp_path)
    assert (scoring.step, scoring.is_final, len(scoring.answers)) == (2, True, 4)
    (training,) = page_of(tmp_path)["trainings"]
    assert training["columns"] == ["this evaluation"] and len(training["watched"]) == 4


def test_tensorboard_gets_all_in_one_event_file(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = (run / "tensorboard").iterdir()
    events = EventAccumulator(str(file), size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    history = read_json(run / "trainer_state.json")["log_history"]
    for tag, key in {
        "train/loss": "loss",
        "eval/accuracy": "eval_accuracy",
        "eval/accuracy_lower_95": "eval_accuracy_lower_95",
        "train/final_accuracy": "final_accuracy",
    }.items():
        logged = [(e["step"], e[key]) for e in history if key in e]
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in found] == [step for step, _ in logged]
        assert [v for _, v in found] == pytest.approx([v for _, v in logged], rel=1e-6)
    texts = events.Tensors("watched/digits/text_summary")
    scorings = read_watched(run)
    texts += events.Tensors("watched_final/digits/text_summary")
    assert [event.step for event in texts] == [2, 4, 6, 6]
    for event, scoring in zip(texts, scorings, strict=True):
        (text,) = event.tensor_proto.string_val
        assert all(f"| {answer.id} | " in text.decode() for answer in scoring.answers)
    assert len([tag for tag in events.Tags()["images"] if tag.startswith("watched/digits/")]) == 8


def test_wandb_gets_the_scores_and_a_table_in_one_run(pico1: Path, tmp_path: Path) -> None:
    finetune(job(pico1, tmp_path, max_steps=2, eval_steps=1, report_to="wandb,tensorboard"))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (record,) = folder.glob("*.wandb")
    content = record.read_bytes()
    for name in (b"train/loss", b"eval/accuracy", b"train/final_accuracy", b"watched/digits"):
        assert name in content
    assert b"media/images/" in content  # of the tables' artifacts
    tables = sorted((folder / "files" / "media" / "table").rglob("*.table.json"))
    assert len(tables) == 3  # two on the way and the last
    predictions = [[row[4] for row in read_json(table)["data"]] for table in tables]
    expected = [[answer.prediction for answer in s.answers] for s in read_watched(tmp_path)]
    assert sorted(predictions) == sorted(expected)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    finetune(job(pico1, tmp_path, max_steps=3, report_to="wandb", resume=True))
    more = {path.name for path in (tmp_path / "wandb").glob("offline-run-*")} - {folder.name}
    assert [name.rpartition("-")[2] for name in more] == [folder.name.rpartition("-")[2]]


def test_names_of_trackers() -> None:
    assert tracker_names("none") == []
    assert tracker_names("wandb, tensorboard,wandb") == ["wandb", "tensorboard"]
    assert add_tracker("none", "wandb") == "wandb"
    assert add_tracker("tensorboard", "wandb") == "tensorboard,wandb"


@pytest.mark.parametrize("name", ["trackio", "mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_one_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "transformers.integrations.integration_utils.get_available_reporting_integrations"
    monkeypatch.setattr(place, lambda: ["tensorboard"])
    with one_sentence(f"needs the package {name}, which is not installed", "pip install"):
        check_trackers(f"tensorboard,{name}")
    with one_sentence("has no tracker 'tensorbord'", "tensorboard, trackio, wandb"):
        check_trackers("tensorbord")
    check_trackers("tensorboard")


TRACKIO = """
import json, types
sent = []
config = {}
context_vars = types.SimpleNamespace(current_space_id=types.SimpleNamespace(get=lambda: None))
class Config(dict):
    def update(self, *values, **_): pass
config = Config()
def init(**settings): sent.append(("init", settings["project"]))
def log(figures): sent.append(("log", sorted(figures)))
def finish(): sent.append(("finish", None))
"""


def test_another_tracker_gets_one_run_too(
    pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trackio.py").write_text(TRACKIO)
    monkeypatch.syspath_prepend(tmp_path)
    finetune(job(pico1, tmp_path / "run", max_steps=2, eval_steps=2, report_to="trackio"))
    import trackio

    kinds = [kind for kind, _ in trackio.sent]
    assert kinds[0] == "init" and kinds[-1] == "finish" and set(kinds[1:-1]) == {"log"}
    assert trackio.sent[0][1] == "palitune"
    figures = {name for kind, names in trackio.sent if kind == "log" for name in names}
    assert {"train/loss", "eval/accuracy", "train/final_accuracy"} <= figures


def test_a_number_that_is_none_has_no_place_on_a_curve() -> None:
    history = [{"step": 1, "loss": 2.0, "grad_norm": math.nan}, {"step": 2, "loss": math.inf}]
    curves = make_curves({"log_history": history}, {"accuracy": 100.0})
    assert (curves.loss, curves.gradient_norm, curves.scores) == ([(1, 2.0)], [], [])
