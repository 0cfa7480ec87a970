"""The COCO caption metrics, by the official scorers of pycocoevalcap called one by one.

Source of every rule here: https://github.com/tylin/coco-caption (pycocoevalcap/eval.py) and its
Python 3 package https://github.com/salaniz/pycocoevalcap, described in
https://arxiv.org/abs/1504.00325. Both sides go through the Penn Treebank tokenizer first. The
scorers run here and not in `COCOEvalCap`, because that one writes into its own package folder
and downloads SPICE's models whether or not SPICE is asked for.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.metrics.java import (
    UnavailableError,
    explain_end,
    java_environment,
    plain_path,
    run_java,
)

Captions = dict[int, list[str]]  # what every scorer takes: image number -> tokenised captions

# The tokenizer ends a line at any of these; only "\n" is replaced by the official wrapper, whose
# captions would slip by one line at the others.
_LINE_BREAKS = re.compile("[\n\r\v\f\u2028\u2029]")
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))\b")
_TOKEN = re.compile(r"n't\b|'(?:s|m|d|ll|re|ve)\b|\w+(?:[-./:]\w+)*|[^\w\s]")


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """The official figures of a set of captions.

    Attributes:
        figures: CIDEr, Bleu_1 to Bleu_4, METEOR, ROUGE_L and SPICE; None where not available.
        reasons: for each None in `metrics`, why.
        cider_per_image: CIDEr of each image within this set; `metrics["CIDEr"]` is their mean.
        is_approximate: Java could not tokenise, so no figure is the official number.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str]
    cider_per_image: list[float]
    is_approximate: bool


def caption_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    with_meteor: bool = True,
    with_spice: bool = True,
) -> CaptionScores:
    """Score one caption per image against the image's references.

    Score a whole split at once: BLEU and METEOR add up over images, and CIDEr weighs words by
    the images of the set it is given (with one image it is 0).

    Args:
        predictions: one caption per image.
        references: the reference captions of each image, in the same order.
        with_meteor: False saves the about 7 s that METEOR takes to start.
        with_spice: False leaves out SPICE, which needs two more jars.
    """
    _check(predictions, references)
    truths, candidates, java_problem = _tokenize(predictions, references)
    if not any(text.split() for texts in truths.values() for text in texts):
        raise ValueError(
            "every reference caption is empty once punctuation is dropped; captions are scored "
            "against references with at least one word."
        )
    metrics, cider_per_image = _python_scores(truths, candidates)
    reasons = {}
    for name, wanted, scorer in (
        ("METEOR", with_meteor, _meteor_score),
        ("SPICE", with_spice, _spice_score),
    ):
        if java_problem or not wanted:
            reasons[name] = java_problem or "it was not asked for"
            continue
        try:
            metrics[name] = scorer(truths, candidates)
        except UnavailableError as error:
            reasons[name] = str(error)
    return CaptionScores(metrics, reasons, cider_per_image, is_approximate=bool(java_problem))


def _check(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not predictions:
        raise ValueError("caption metrics need at least one image, got 0 predictions.")
    if len(predictions) != len(references):
        raise ValueError(
            f"caption metrics take one prediction per image, got {len(predictions)} predictions "
            f"for {len(references)} images."
        )
    if empty := [number for number, texts in enumerate(references) if not texts]:
        raise ValueError(
            f"{len(empty)} of {len(references)} images have no reference caption, the first is "
            f"number {empty[0]} (from 0); each needs at least one."
        )


def _tokenize(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Captions, Captions, str]:
    """Tokenise the references and the predictions of each image.

    Returns:
        References, predictions, and why Java did not tokenise them ("" where it did).
    """
    truths = [_LINE_BREAKS.sub(" ", text) for texts in references for text in texts]
    candidates = [_LINE_BREAKS.sub(" ", text) for text in predictions]
    problem = ""
    try:
        truths, candidates = _ptb_tokenize(truths, candidates)
    except UnavailableError as error:
        problem = str(error)
        truths = [_approximate_tokens(text) for text in truths]
        candidates = [_approximate_tokens(text) for text in candidates]
    remaining = iter(truths)
    return (
        {number: [next(remaining) for _ in texts] for number, texts in enumerate(references)},
        {number: [text] for number, text in enumerate(candidates)},
        problem,
    )


def _ptb_tokenize(truths: list[str], candidates: list[str]) -> tuple[list[str], list[str]]:
    """Tokenise as pycocoevalcap's PTBTokenizer does, both sides in one process, without files.

    A line can change how the one before it ends (an abbreviation before a number keeps its
    period), and the official wrapper runs once per side: the blank line between the sides stands
    for the end of the file.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    # named from its own folder: Java may not be able to spell the path
    folder, jar = Path(ptbtokenizer.__file__).parent, ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    main_class = "edu.stanford.nlp.process.PTBTokenizer"
    command = ["java", "-cp", jar, main_class, "-preserveLines", "-lowerCase"]
    lines = [*truths, "", *candidates]
    tokenized = run_java(command, "\n".join(lines), folder).split("\n")
    assert len(tokenized) == len(lines), f"{len(lines)} lines in, {len(tokenized)} out"
    dropped = frozenset(ptbtokenizer.PUNCTUATIONS)
    kept = [
        " ".join(token for token in line.rstrip().split(" ") if token not in dropped)
        for line in tokenized
    ]
    return kept[: len(truths)], kept[len(truths) + 1 :]


def _approximate_tokens(text: str) -> str:
    """Tokenise without Java, near to the Penn Treebank's way but not equal to it."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    tokens = _TOKEN.findall(_CLITIC.sub(r" \1", text.lower()))
    return " ".join(token for token in tokens if token not in PUNCTUATIONS)


def _python_scores(
    truths: Captions, candidates: Captions
) -> tuple[dict[str, float | None], list[float]]:
    """Run the scorers that need no Java; the dict has a place for every figure, in its order."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    cider, cider_per_image = Cider().compute_score(truths, candidates)
    bleu, _ = Bleu(4).compute_score(truths, candidates, verbose=0)
    rouge, _ = Rouge().compute_score(truths, candidates)
    metrics: dict[str, float | None] = {"CIDEr": float(cider)}
    metrics |= {f"Bleu_{order}": float(score) for order, score in enumerate(bleu, start=1)}
    metrics |= {"METEOR": None, "ROUGE_L": float(rouge), "SPICE": None}
    return metrics, [float(score) for score in cider_per_image]


def _meteor_score(truths: Captions, candidates: Captions) -> float:
    try:
        with _meteor() as scorer:
            score, _ = scorer.compute_score(truths, candidates)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"METEOR's Java process failed ({error})") from error
    return float(score)


@contextmanager
def _meteor() -> Iterator[Any]:
    """Start METEOR's Java process; end it and close its pipes however the block ends."""
    from pycocoevalcap.meteor import meteor

    # it looks for its data beside its jar, by a path in which it reads no escaped letters
    with plain_path(Path(meteor.__file__).parent) as folder:
        jar, meteor.METEOR_JAR = meteor.METEOR_JAR, str(folder / meteor.METEOR_JAR)
        try:
            with java_environment():
                scorer = meteor.Meteor()
        finally:
            meteor.METEOR_JAR = jar
        process = scorer.meteor_p
        try:
            yield scorer
        except (OSError, ValueError) as error:  # it ended early: its words say more than the pipe's
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
            code = process.poll()
            process.kill()
            raise OSError(explain_end(code, process.stderr.read())) from error
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with suppress(OSError):  # closing flushes what a dead process can no longer take
                    pipe.close()
            if scorer.lock.locked():  # left so by a failure; its destructor would wait for it
                scorer.lock.release()


def _spice_score(truths: Captions, candidates: Captions) -> float:
    """Run SPICE, if its jars are there: without them its constructor would download them."""
    from pycocoevalcap.spice import spice

    jars = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
    folder = Path(spice.__file__).parent / "lib"
    if missing := [jar for jar in jars if not (folder / jar).is_file()]:
        raise UnavailableError(
            f"{' and '.join(missing)} not found in {folder}: SPICE needs them, get them with "
            "`python -m pycocoevalcap.spice.get_stanford_models`"
        )
    try:
        with java_environment():
            score, _ = spice.Spice().compute_score(truths, candidates)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        raise UnavailableError(
            f"SPICE failed ({error}): it needs Java 8 or 11, 8 GB of memory, and to write into "
            f"{folder.parent}"
        ) from error
    return float(score)


def explain(prediction: str, references: Sequence[str]) -> list[str]:
    """Explain a caption's CIDEr by its n-grams that occur in each reference, n from 1 to 4.

    They are counted as the scorer counts them, with each n-gram no oftener than the reference has
    it. CIDEr weighs each by how rare it is in the whole split, which one line cannot show. Java's
    tokenizer is not started for it.

    Args:
        prediction: the caption.
        references: of its image.
    """
    from pycocoevalcap.cider.cider_scorer import precook

    own = Counter(precook(_approximate_tokens(prediction)))
    shared = [own & Counter(precook(_approximate_tokens(text))) for text in references]
    parts = [
        f"{order}: {', '.join(str(_num_of(counts, order)) for counts in shared)} "
        f"of {_num_of(own, order)}"
        for order in range(1, 5)
    ]
    return [f"n-grams shared with each reference, words split without Java; {'; '.join(parts)}"]


def _num_of(counts: Mapping[tuple[str, ...], int], order: int) -> int:
    return sum(count for ngram, count in counts.items() if len(ngram) == order)
