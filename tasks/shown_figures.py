"""Which figures are shown: one rule for the terminal, the model card and the report's page.

metrics.json holds every figure.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from tasks.metrics.text import FIGURES

_BLEU_ORDER = 4  # the longest n-grams that BLEU and sacreBLEU count, in words
_FOR_SHORT = ("exact_match", "rouge_l")


def for_longer_texts(
    metrics: Collection[str], headline: str, references: Iterable[Sequence[str]]
) -> tuple[str, ...]:
    """Return the figures that say little of answers as short as these.

    They are BLEU, METEOR, CIDEr and their like, where no reference has the four words that BLEU's
    longest n-gram needs; words are what stands between spaces, in every script. A headline always
    says something, and so do the figures of a task that is not scored as free text, by `rouge_l`
    among others.

    Args:
        metrics: the names of a split's figures.
        headline: which of them is the headline.
        references: those of each example.
    """
    names = [name for name in metrics if name in FIGURES and name not in (*_FOR_SHORT, headline)]
    if not names or "rouge_l" not in metrics:
        return ()
    longest = max((len(text.split()) for texts in references for text in texts), default=0)
    return tuple(names) if longest < _BLEU_ORDER else ()


def is_repeated(metrics: Mapping[str, float | None]) -> bool:
    """Return True where `rougeL` repeats `rouge_l`: one rule, where all letters are a to z."""
    return "rougeL" in metrics and metrics["rougeL"] == metrics.get("rouge_l")


def shown_figures(
    metrics: Mapping[str, float | None], longer: Sequence[str]
) -> dict[str, float | None]:
    """Return the figures that a table shows.

    Args:
        metrics: all of them.
        longer: what `for_longer_texts` found.
    """
    hidden = {*longer, *(("rougeL",) if is_repeated(metrics) else ())}
    return {name: value for name, value in metrics.items() if name not in hidden}


def is_note_on(note: str, names: Sequence[str], headline: str) -> bool:
    """Return True for a note on these figures: its first word is one's name, the headline none."""
    return note.partition(" ")[0] in names and headline not in note


def where_longer_are(longer: Iterable[str], metrics: Mapping[str, float | None]) -> str:
    """Return the sentence on figures left to metrics.json; empty where none has a value."""
    names = ", ".join(name for name in longer if metrics.get(name) is not None)
    return names and f"Figures made for longer texts are in metrics.json: {names}."
