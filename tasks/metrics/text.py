"""Metrics of free-form text, for tasks without an official protocol, and what texts look like.

Sources: sacreBLEU, https://arxiv.org/abs/1804.08771 and https://github.com/mjpost/sacrebleu; ROUGE,
https://aclanthology.org/W04-1013, by the package of
https://github.com/google-research/google-research/tree/master/rouge; the COCO family,
https://arxiv.org/abs/1504.00325 (`captioning.py`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from statistics import fmean, median
from typing import Any

from tasks.metrics.captioning import CaptionScores, caption_scores

_CAPTION_FIGURES = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr")
FIGURES = ("exact_match", "sacrebleu", "rougeL", *_CAPTION_FIGURES, "SPICE", "rouge_l")
# Where words stand without spaces between them, a character is the unit.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_ROUGE_CHARACTER = re.compile("[a-z0-9]")
_APPROXIMATE = (
    "Bleu_1 to Bleu_4, ROUGE_L and CIDEr are approximate: without Java the official tokeniser "
    "cannot run, so do not compare them with published ones."
)


@dataclass(frozen=True, slots=True)
class TextScores:
    """The figures of a set of texts; one name is one rule.

    Attributes:
        figures: by name; None where not available.
            exact_match: share of predictions, 0 to 1, that equal any of their references. Case and
                punctuation count (unlike in the accuracy of DocVQA, which ignores case).
            sacrebleu: sacreBLEU's corpus BLEU-4 with its defaults (13a tokenizer, exponential
                smoothing, case kept), 0 to 100. It is 0 where no prediction has four tokens.
            rougeL: F-measure (beta 1) of the longest common subsequence, 0 to 1, by Google's
                rouge-score: the best over references, then the mean over examples. No stemmer;
                its tokens are the runs of a to z and 0 to 9 in the lower-cased text, so that
                letters of other scripts do not count and a text of them alone scores 0.
            Bleu_1 to Bleu_4, METEOR, ROUGE_L, CIDEr: as `caption_scores` gives them.
        reasons: for each None in `metrics`, why.
            SPICE: likewise, where asked for.
        values_per_example: exact_match, rougeL and, where there is one, CIDEr of each example;
            their means are the figures.
        additions: `sacrebleu_signature`, the settings and version behind sacrebleu in its own
            notation, and `token_statistics` of predictions and references.
        notes: sentences that must stand beside the figures.
        is_approximate: Java could not tokenise, so no figure that `caption_scores` gives is the
            official number.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str]
    values_per_example: dict[str, list[float]]
    additions: dict[str, Any]
    notes: tuple[str, ...]
    is_approximate: bool


def text_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, with_spice: bool = False
) -> TextScores:
    """Score one text per example against the example's references.

    Score a whole split at once: BLEU, METEOR and CIDEr are figures of a set, not means. On
    both sides outer white space is stripped and a run of it, line breaks included, is one space: as
    cleaning leaves predictions so, no reference of several lines would match otherwise.

    Args:
        predictions: one text per example.
        references: one or more accepted texts per example, in the same order; their number may
            differ between examples.
        with_spice: add SPICE, which takes long and needs two more jars.

    Raises:
        ValueError: there are no predictions, not as many as examples, or no references of one.
    """
    _check(predictions, references)
    given, accepted = predictions, references
    predictions = [_one_line(text) for text in predictions]
    references = [[_one_line(text) for text in texts] for texts in references]
    matches = [
        float(prediction in texts)
        for prediction, texts in zip(predictions, references, strict=True)
    ]
    rouge = _rouge_l(predictions, references)
    bleu, signature, notes = _sacrebleu(predictions, references)
    metrics: dict[str, float | None] = {
        "exact_match": fmean(matches),
        "sacrebleu": bleu,
        "rougeL": fmean(rouge),
    }
    captions = _caption_scores(predictions, references, with_spice)
    if num_unseen := sum(not _ROUGE_CHARACTER.search(" ".join(r).lower()) for r in references):
        notes.append(
            f"rougeL sees the letters a to z and digits only: {num_unseen} of {len(references)} "
            "examples have none in any reference and score 0."
        )
    if captions.is_approximate:
        notes.append(_APPROXIMATE)
    return TextScores(
        metrics=metrics | captions.metrics,
        reasons=captions.reasons,
        values_per_example={"exact_match": matches, "rougeL": rouge}
        | ({"CIDEr": captions.cider_per_image} if captions.cider_per_image else {}),
        additions={
            "sacrebleu_signature": signature,
            "token_statistics": {
                "predictions": token_statistics(given),
                "references": token_statistics([t for texts in accepted for t in texts]),
            },
        },
        notes=tuple(notes),
        is_approximate=captions.is_approximate,
    )


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Compute ROUGE-L of each example, 0 to 1, in any script.

    The F-measure (beta 1) of the longest common subsequence of words, the best over references,
    by Google's rouge-score without its stemmer. Only the words are others than there: runs of
    Unicode letters, marks and digits, lower-cased; where a script puts no spaces between words
    (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character with its marks is one. Of texts in
    ASCII without the low line it is `rougeL`.

    Raises:
        ValueError: as in `text_scores`.
    """
    from rouge_score.tokenizers import Tokenizer

    _check(predictions, references)
    word = _word()

    class Words(Tokenizer):
        def tokenize(self, text: str) -> list[str]:
            return [str(found) for found in word.findall(text.lower())]

    return _rouge_l(predictions, references, Words())


def note_on_words(references: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the sentence that must stand beside `rouge_l`; none where each example has a word."""
    word = _word()
    if not (num_unseen := sum(not any(map(word.search, texts)) for texts in references)):
        return ()
    return (
        f"rouge_l sees letters and digits only: {num_unseen} of {len(references)} examples have "
        "none in any reference and score 0; exact_match counts them, which is the headline of a "
        "table by --metric exact_match.",
    )


def _word() -> Any:
    """Return the pattern of a word as `rouge_l` takes it, of lower-cased text."""
    import regex

    return regex.compile(
        rf"[{_UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+", regex.V1
    )


def token_statistics(texts: Sequence[str]) -> dict[str, float | None]:
    r"""Describe the lengths and the vocabulary of texts.

    A token is a word or a single other visible character. A word is a run of what Unicode counts
    as word characters (`\w` of https://www.unicode.org/reports/tr18: letters, marks, digits, the
    low line) in any script; where words stand without spaces between them, as in Chinese, a whole
    run is one token.

    Returns:
        num_texts; num_empty, those without a token; mean_length, median_length, min_length and
        max_length of a text in tokens; vocabulary_size, the number of distinct lower-cased tokens;
        type_token_ratio, its share of all tokens, 0 to 1 (None where there is no token).

    Raises:
        ValueError: there are no texts.
    """
    import regex  # `\w` of `re` leaves out marks, and so cuts Hindi words into pieces

    if not texts:
        raise ValueError("token statistics need at least one text, got 0.")
    token = regex.compile(r"\w+|\S")
    vocabulary: set[str] = set()
    lengths = []
    for text in texts:
        tokens = token.findall(text.lower())
        vocabulary.update(tokens)
        lengths.append(len(tokens))
    return {
        "num_texts": len(texts),
        "num_empty": lengths.count(0),
        "mean_length": fmean(lengths),
        "median_length": median(lengths),
        "min_length": min(lengths),
        "max_length": max(lengths),
        "vocabulary_size": len(vocabulary),
        "type_token_ratio": len(vocabulary) / sum(lengths) if vocabulary else None,
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _check(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not predictions:
        raise ValueError("text metrics need at least one example, got 0 predictions.")
    if len(predictions) != len(references):
        raise ValueError(
            f"text metrics take one prediction per example, got {len(predictions)} predictions "
            f"for {len(references)} examples."
        )
    if empty := [number for number, texts in enumerate(references) if not texts]:
        raise ValueError(
            f"{len(empty)} of {len(references)} examples have no reference text, the first is "
            f"number {empty[0]} (from 0); each needs at least one."
        )


def _sacrebleu(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, str, list[str]]:
    """Return corpus BLEU, its signature, and what must be said beside it."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU()
    # One column per reference position. A missing one must be None: "" would be a reference of
    # length 0, the closest one to a very short prediction.
    score = metric.corpus_score(predictions, list(zip_longest(*references)))
    notes = []
    if score.totals[-1] == 0:
        notes.append("sacrebleu is 0 by its rule, as no prediction has four tokens.")
    return float(score.score), str(metric.get_signature()), notes


def _rouge_l(
    predictions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Any = None
) -> list[float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False, tokenizer=tokenizer)
    return [
        max(float(scorer.score(text, prediction)["rougeL"].fmeasure) for text in set(texts))
        for prediction, texts in zip(predictions, references, strict=True)
    ]


def _caption_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], with_spice: bool
) -> CaptionScores:
    """The COCO figures in our order, why some are None, and whether they are approximate."""
    names = (*_CAPTION_FIGURES, *(["SPICE"] if with_spice else []))
    try:
        scores = caption_scores(predictions, references, with_spice=with_spice)
    except ValueError as error:  # references of punctuation alone, which exact_match can score
        reason = str(error).removesuffix(".")
        return CaptionScores(dict.fromkeys(names), dict.fromkeys(names, reason), [], False)
    return replace(
        scores,
        metrics={name: scores.metrics[name] for name in names},
        reasons={name: reason for name, reason in scores.reasons.items() if name in names},
    )
