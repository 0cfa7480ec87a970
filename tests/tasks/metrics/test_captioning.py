"""Caption metrics: golden and hand-worked values, the package's own tokenizer."""

import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from pycocoevalcap.meteor import meteor
from pycocoevalcap.spice import spice
from pycocoevalcap.tokenizer import ptbtokenizer

from tasks.metrics import captioning
from tasks.metrics.captioning import CaptionScores, caption_scores

TOY_REFERENCES = [
    ["the cat is on the mat", "there is a cat on the mat"],
    ["a dog runs in the park", "the dog is running"],
]
TOY_PREDICTIONS = ["the cat sat on the mat", "a dog is running in the park"]
PACKAGE = Path(ptbtokenizer.__file__).parent.parent


class RecordedProcess(subprocess.Popen):
    """A process that tells which ones were started."""

    started: list["RecordedProcess"]

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.started.append(self)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[RecordedProcess]:
    monkeypatch.setattr(RecordedProcess, "started", [], raising=False)
    monkeypatch.setattr(subprocess, "Popen", RecordedProcess)
    return RecordedProcess.started


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def no_spice_jars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Show SPICE's package folder as one without the two jars."""
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(spice, "__file__", str(tmp_path / "spice.py"))
    return tmp_path / "lib"


@pytest.fixture
def spice_jars(no_spice_jars: Path) -> None:
    for jar in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (no_spice_jars / jar).touch()


def package_state() -> dict[Path, int]:
    """When each file and folder of the package last changed: a folder does by a temporary file."""
    paths = [path for path in PACKAGE.rglob("*") if "__pycache__" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in paths}


@pytest.fixture(scope="module")
def toy() -> Iterator[SimpleNamespace]:
    """The toy set with METEOR, run once: its scores, and what the run did beside them."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(RecordedProcess, "started", [], raising=False)
        monkeypatch.setattr(subprocess, "Popen", RecordedProcess)
        caption_scores(["a"], [["a"]], with_meteor=False, with_spice=False)  # imports, byte code
        RecordedProcess.started.clear()
        before = package_state()
        scores = caption_scores(TOY_PREDICTIONS, TOY_REFERENCES, with_spice=False)
        yield SimpleNamespace(
            scores=scores,
            before=before,
            after=package_state(),
            processes=list(RecordedProcess.started),
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CIDEr", 3.659852),
        ("Bleu_1", 0.923077),
        ("Bleu_2", 0.819346),
        ("Bleu_3", 0.607115),
        ("Bleu_4", 7.5193e-05),
        ("METEOR", 0.449711),
        ("ROUGE_L", 0.806692),
    ],
)
def test_the_toy_set_gives_the_golden_value(
    toy: SimpleNamespace, name: str, expected: float
) -> None:
    assert toy.scores.metrics[name] == pytest.approx(expected, rel=1e-5)


def test_the_toy_set_gives_the_golden_cider_of_each_image(toy: SimpleNamespace) -> None:
    assert toy.scores.cider_per_image == pytest.approx([3.795394, 3.524311], abs=5e-7)


def test_figures_come_in_the_coco_order(toy: SimpleNamespace) -> None:
    assert ", ".join(toy.scores.metrics) == (
        "CIDEr, Bleu_1, Bleu_2, Bleu_3, Bleu_4, METEOR, ROUGE_L, SPICE"
    )


def test_one_call_runs_one_tokenizer_and_one_meteor_and_ends_both(toy: SimpleNamespace) -> None:
    tokenizer, scorer = toy.processes
    assert "edu.stanford.nlp.process.PTBTokenizer" in tokenizer.args
    assert any(argument.endswith(meteor.METEOR_JAR) for argument in scorer.args)
    for process in toy.processes:
        assert process.returncode is not None
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe.closed


def test_nothing_is_written_into_the_package_folder(toy: SimpleNamespace) -> None:
    assert toy.after == toy.before


def test_java_makes_the_figures_official(toy: SimpleNamespace) -> None:
    assert not toy.scores.is_approximate
    assert toy.scores.reasons == {"SPICE": "it was not asked for"}


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    scores_without_meteor(TOY_PREDICTIONS, TOY_REFERENCES)
    assert capfd.readouterr() == ("", "")


def scores_without_meteor(predictions: list[str], references: list[list[str]]) -> CaptionScores:
    return caption_scores(predictions, references, with_meteor=False, with_spice=False)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("isn't", "is n't"),
        ("the dog's bone", "the dog 's bone"),
        ("T-shirt", "t-shirt"),
        ("in the u.s.a. today", "in the u.s.a. today"),
        ("1/2", "1/2"),
        ("10:30", "10:30"),
        ("a (big) dog", "a -lrb- big -rrb- dog"),
        (
            "a dog, a cat; two: birds - and? more! ... `x` ''y''.",
            "a dog a cat two birds and more x y",
        ),
        ("", ""),
        ("a dog\nruns", "a dog runs"),
        ("a dog\r\nruns\u2028on\vand\fon", "a dog runs on and on"),
        ("un café", "un café"),
    ],
)
def test_the_tokenizer_gives_the_worked_values(caption: str, expected: str) -> None:
    # Between other captions, so that a line too many or too few shows.
    truths, candidates, problem = captioning._tokenize(
        [caption, "last"], [["first", caption], [caption]]
    )
    assert problem == ""
    assert truths == {0: ["first", expected], 1: [expected]}
    assert candidates == {0: [expected], 1: ["last"]}


def test_tokens_equal_those_of_the_package_tokenizer() -> None:
    random = Random(0)
    pieces = ["The", "cat", "isn't", "No.", "no.", "5", "etc.", "Mr.", "U.S.", "(a)", '"b"', "'c'"]
    pieces += [*"-:;!?,./&$%#", "--", "...", "10:30", "t-shirt", "<b>", "a@b.c", "http://x.y/z"]
    pieces += ["1/2", "café", "日本", "\ufb01", "\n"]
    captions = [" ".join(random.choices(pieces, k=random.randint(0, 9))) for _ in range(400)]
    references = [captions[start : start + 3] for start in range(0, 300, 3)]
    predictions = captions[300:]
    # What follows an abbreviation decides about its period; the sides must not see each other.
    references[-1][-1], predictions[0] = "apartment no.", "5 cats"
    truths, candidates, _ = captioning._tokenize(predictions, references)
    official = ptbtokenizer.PTBTokenizer()
    assert truths == official.tokenize(
        {number: [{"caption": text} for text in texts] for number, texts in enumerate(references)}
    )
    assert candidates == official.tokenize(
        {number: [{"caption": text}] for number, text in enumerate(predictions)}
    )


def test_captions_are_tokenised_before_they_are_scored() -> None:
    plain = scores_without_meteor(TOY_PREDICTIONS, TOY_REFERENCES)
    written = [f"{text.capitalize()}." for text in TOY_PREDICTIONS]
    assert scores_without_meteor(written, TOY_REFERENCES) == plain


def test_bleu_4_is_sacrebleus_on_the_same_tokens() -> None:
    from sacrebleu.metrics.bleu import BLEU

    random = Random(3)
    words = ["a", "cat", "the", "dog", "sits", "on", "runs", "mat", "green", "old", ",", "."]

    def sentence() -> str:
        return " ".join(random.choices(words, k=random.randint(5, 12)))

    references = [[sentence() for _ in range(5)] for _ in range(40)]
    # near to a reference, so that there are 4-grams in common
    predictions = [texts[0][: len(texts[0]) * 3 // 4] + " dog" for texts in references]
    truths, candidates, problem = captioning._tokenize(predictions, references)
    assert not problem
    plain = BLEU(tokenize="none", smooth_method="none", force=True)
    columns = [[truths[i][n] for i in range(40)] for n in range(5)]
    expected = plain.corpus_score([candidates[i][0] for i in range(40)], columns).score
    metrics = caption_scores(predictions, references, with_meteor=False, with_spice=False).metrics
    assert metrics["Bleu_4"] == pytest.approx(expected / 100, abs=1e-9)
    assert expected > 10


def test_one_image_gives_cider_zero() -> None:
    assert scores_without_meteor(["a dog runs"], [["a dog runs"]]).metrics["CIDEr"] == 0.0


def test_two_identical_disjoint_pairs_give_cider_ten() -> None:
    texts = ["a red dog runs", "two cats sit still"]
    assert scores_without_meteor(texts, [[text] for text in texts]).metrics["CIDEr"] == (
        pytest.approx(10.0)
    )


def test_an_empty_caption_scores_zero_and_the_others_count() -> None:
    scores = scores_without_meteor(["", "two cats sit still"], [["a dog"], ["two cats sit still"]])
    assert scores.cider_per_image == pytest.approx([0.0, 10.0])
    assert scores.metrics["ROUGE_L"] == pytest.approx(0.5)


def test_short_captions_pay_the_brevity_penalty() -> None:
    # 2 words of 2 right, closest reference of 4 words: exp(1 - 4/2)
    scores = scores_without_meteor(["a dog"], [["a dog runs far", "a dog runs far away"]])
    assert scores.metrics["Bleu_1"] == pytest.approx(math.exp(-1), abs=1e-6)


@pytest.mark.usefixtures("no_java")
def test_without_java_the_python_metrics_are_approximate_and_the_others_none() -> None:
    scores = caption_scores(
        ["The cat sat on the mat.", "A dog is running, in the park!"], TOY_REFERENCES
    )
    assert scores.is_approximate
    # This punctuation is simple enough for the approximate tokens to be the right ones.
    assert scores.metrics["CIDEr"] == pytest.approx(3.659852, abs=1e-6)
    assert scores.metrics["ROUGE_L"] == pytest.approx(0.806692, abs=1e-6)
    assert scores.metrics["Bleu_3"] == pytest.approx(0.607115, abs=1e-6)
    assert scores.metrics["METEOR"] is None and scores.metrics["SPICE"] is None
    for name in ("METEOR", "SPICE"):
        assert "Java was not found" in scores.reasons[name]
        assert "apt-get install" in scores.reasons[name]


def test_a_java_that_fails_is_treated_as_missing_and_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho no runtime present >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    scores = caption_scores(TOY_PREDICTIONS, TOY_REFERENCES)
    assert scores.is_approximate
    assert "no runtime present" in scores.reasons["METEOR"]


def test_a_java_that_cannot_be_started_is_treated_as_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "java"
    java.write_text("#!/no/such/interpreter\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    scores = caption_scores(TOY_PREDICTIONS, TOY_REFERENCES)
    assert scores.is_approximate
    assert "could not be started" in scores.reasons["METEOR"]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Isn't it the dog's T-shirt?", "is n't it the dog 's t-shirt"),
        ("At 10:30, 1/2 of them...", "at 10:30 1/2 of them"),
        ("``x'' -- 'y'; un café", "x y un café"),
        ("", ""),
    ],
)
def test_approximate_tokens_drop_the_same_punctuation(caption: str, expected: str) -> None:
    assert captioning._approximate_tokens(caption) == expected


def test_a_meteor_that_dies_is_none_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, processes: list[RecordedProcess]
) -> None:
    monkeypatch.setattr(meteor, "METEOR_JAR", "no-such.jar")
    scores = caption_scores(TOY_PREDICTIONS, TOY_REFERENCES, with_spice=False)
    assert scores.metrics["METEOR"] is None
    assert "no-such.jar" in scores.reasons["METEOR"]
    assert scores.metrics["CIDEr"] == pytest.approx(3.659852, abs=1e-6)
    assert not scores.is_approximate
    assert all(process.returncode is not None for process in processes)


def test_a_stopped_scoring_does_not_leave_meteor_running(
    monkeypatch: pytest.MonkeyPatch, processes: list[RecordedProcess]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(meteor.Meteor, "_stat", interrupt)
    monkeypatch.setattr(meteor.Meteor, "__del__", lambda _: None)  # it may run late, or never
    with pytest.raises(KeyboardInterrupt):
        caption_scores(TOY_PREDICTIONS, TOY_REFERENCES, with_spice=False)
    assert len(processes) == 2
    assert all(process.returncode is not None for process in processes)


@pytest.mark.usefixtures("no_spice_jars")
def test_without_its_jars_spice_is_never_built_and_none_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def download(*_: object) -> None:
        raise AssertionError("Spice() downloads its jars")

    monkeypatch.setattr(spice.Spice, "__init__", download)
    scores = caption_scores(TOY_PREDICTIONS, TOY_REFERENCES, with_meteor=False)
    assert scores.metrics["SPICE"] is None
    assert "stanford-corenlp-3.6.0-models.jar" in scores.reasons["SPICE"]
    assert "python -m pycocoevalcap.spice.get_stanford_models" in scores.reasons["SPICE"]


@pytest.mark.usefixtures("spice_jars")
def test_with_its_jars_spice_scores_the_tokenised_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def compute_score(_: object, truths: object, candidates: object) -> tuple[float, list[float]]:
        given.append((truths, candidates))
        return 0.133, []

    monkeypatch.setattr(spice.Spice, "__init__", lambda _: None)
    monkeypatch.setattr(spice.Spice, "compute_score", compute_score)
    scores = caption_scores(["A dog."], [["The dog runs!"]], with_meteor=False)
    assert scores.metrics["SPICE"] == 0.133
    assert "SPICE" not in scores.reasons
    assert given == [({0: ["the dog runs"]}, {0: ["a dog"]})]


@pytest.mark.usefixtures("spice_jars")
def test_a_spice_that_fails_is_none_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise subprocess.CalledProcessError(1, "java")

    monkeypatch.setattr(spice.Spice, "__init__", lambda _: None)
    monkeypatch.setattr(spice.Spice, "compute_score", fail)
    scores = caption_scores(TOY_PREDICTIONS, TOY_REFERENCES, with_meteor=False)
    assert scores.metrics["SPICE"] is None
    assert "Java 8 or 11" in scores.reasons["SPICE"]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "at least one image, got 0"),
        (["a"], [["a"], ["b"]], "got 1 predictions for 2 images"),
        (["a", "b"], [["a"], []], "1 of 2 images have no reference caption, the first is number 1"),
        (["a"], [["."]], "every reference caption is empty"),
    ],
)
def test_what_cannot_be_scored_is_an_error_in_one_sentence(
    predictions: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scores_without_meteor(predictions, references)
