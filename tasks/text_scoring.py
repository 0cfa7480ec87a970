"""Scores of answers in free text: captions, and texts of any kind."""

from collections.abc import Sequence
from statistics import fmean

from tasks.base import Example, Scores

_APPROXIMATE = (
    "The caption figures are approximate: without Java the official tokeniser cannot run, so do "
    "not compare them with published ones."
)


def score_captions(
    predictions: Sequence[str], examples: Sequence[Example], *, headline_only: bool = False
) -> Scores:
    """Score by the official caption metrics; CIDEr, the headline, depends on the whole split.

    Args:
        predictions: cleaned captions.
        examples: with references.
        headline_only: leave out METEOR and SPICE, whose programs take long to start.
    """
    from tasks.metrics.captioning import caption_scores

    scores = caption_scores(
        predictions,
        [example.references for example in examples],
        with_meteor=not headline_only,
        with_spice=not headline_only,
    )
    return Scores(
        values=scores.cider_per_image,
        metrics=scores.metrics,
        reasons=scores.reasons,
        notes=(_APPROXIMATE,) if scores.is_approximate else (),
    )


def score_texts(
    predictions: Sequence[str], examples: Sequence[Example], *, headline: str
) -> Scores:
    """Score by every metric of free text, and describe what the texts look like.

    Args:
        predictions: cleaned texts.
        examples: with references.
        headline: `rouge_l` or `CIDEr`, which comes first and is broken down to the examples.

    Raises:
        ValueError: there is no CIDEr, as no reference has a word.
    """
    from tasks.metrics.text import note_on_words, rouge_l, text_scores

    references = [example.references for example in examples]
    scores = text_scores(predictions, references, with_spice=True)
    rouge = rouge_l(predictions, references)
    values = {**scores.values_per_example, "rouge_l": rouge}
    if headline not in values:
        raise ValueError(f"{headline} cannot be computed: {scores.reasons[headline]}.")
    metrics = {**scores.metrics, "rouge_l": fmean(rouge)}
    return Scores(
        values=values[headline],
        metrics={headline: metrics[headline]} | metrics,
        reasons=scores.reasons,
        notes=(*note_on_words(references), *scores.notes),
        additions=scores.additions,
    )
