"""Caption metrics against their formulas, computed slowly as they are written."""

import math
from collections import Counter
from random import Random

import pytest

from tasks.metrics.captioning import caption_scores, explain
from tasks.registry import get_task


def ngrams(text: str, order: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def slow_bleu(predictions: list[str], references: list[list[str]], highest: int) -> float:
    """Corpus BLEU with closest reference lengths and the COCO script's two tiny constants."""
    product = 1.0
    for order in range(1, highest + 1):
        clipped = total = 0
        for text, truths in zip(predictions, references, strict=True):
            for ngram, count in ngrams(text, order).items():
                clipped += min(count, max(ngrams(truth, order)[ngram] for truth in truths))
            total += max(0, len(text.split()) - order + 1)
        product *= (clipped + 1e-15) / (total + 1e-9)
    length = closest = 0
    for text, truths in zip(predictions, references, strict=True):
        words = len(text.split())
        length += words
        closest += min((len(t.split()) for t in truths), key=lambda n: (abs(n - words), n))
    penalty = math.exp(1 - closest / length) if length < closest else 1.0
    return penalty * product ** (1 / highest)


def longest_common_subsequence(first: list[str], second: list[str]) -> int:
    if not first or not second:
        return 0
    if first[0] == second[0]:
        return 1 + longest_common_subsequence(first[1:], second[1:])
    return max(
        longest_common_subsequence(first[1:], second),
        longest_common_subsequence(first, second[1:]),
    )


def slow_rouge(predictions: list[str], references: list[list[str]]) -> float:
    scores = []
    for text, truths in zip(predictions, references, strict=True):
        common = [longest_common_subsequence(text.split(), truth.split()) for truth in truths]
        precision = max(common) / len(text.split())
        recall = max(n / len(t.split()) for n, t in zip(common, truths, strict=True))
        bottom = recall + 1.2**2 * precision
        scores.append((1 + 1.2**2) * precision * recall / bottom if bottom else 0.0)
    return sum(scores) / len(scores)


def slow_cider(predictions: list[str], references: list[list[str]]) -> list[float]:
    """CIDEr-D of each image: clipped cosine of tf-idf vectors with a length penalty."""

    def weights(text: str, order: int) -> dict[tuple[str, ...], float]:
        result = {}
        for ngram, count in ngrams(text, order).items():
            images = sum(any(ngrams(t, order)[ngram] for t in truths) for truths in references)
            result[ngram] = count * (math.log(len(references)) - math.log(max(1, images)))
        return result

    scores = []
    for text, truths in zip(predictions, references, strict=True):
        terms = []
        for truth in truths:
            bigrams = ngrams(text, 2).total() - ngrams(truth, 2).total()
            for order in (1, 2, 3, 4):
                ours, theirs = weights(text, order), weights(truth, order)
                dot = sum(min(w, theirs.get(g, 0.0)) * theirs.get(g, 0.0) for g, w in ours.items())
                norms = math.hypot(*ours.values()) * math.hypot(*theirs.values())
                terms.append((dot / norms if norms else 0.0) * math.exp(-(bigrams**2) / 72))
        scores.append(10 * sum(terms) / len(terms))
    return scores


@pytest.mark.parametrize("seed", [0, 1])
def test_random_captions_score_as_the_formulas_read_literally(seed: int) -> None:
    random = Random(seed)
    words = ["dog", "cat", "red", "big", "runs", "sits", "on", "mat", "two", "park"]

    def caption() -> str:
        return " ".join(random.choices(words, k=random.randint(1, 8)))

    references = [[caption() for _ in range(random.randint(1, 5))] for _ in range(25)]
    predictions = [random.choice([caption(), truths[0]]) for truths in references]
    scores = caption_scores(predictions, references, with_meteor=False, with_spice=False)
    per_image = slow_cider(predictions, references)
    assert scores.cider_per_image == pytest.approx(per_image, abs=1e-9)
    assert scores.metrics["CIDEr"] == pytest.approx(sum(per_image) / 25, abs=1e-9)
    assert scores.metrics["ROUGE_L"] == pytest.approx(slow_rouge(predictions, references), abs=1e-9)
    for order in (1, 2, 3, 4):
        assert scores.metrics[f"Bleu_{order}"] == pytest.approx(
            slow_bleu(predictions, references, order), abs=1e-9
        )


def test_the_working_of_a_caption_counts_the_n_grams_that_each_reference_has_too() -> None:
    # "a red cat a": 1-grams a a red cat, 2-grams "a red" "red cat" "cat a", then 2 and 1.
    # With the first reference: a (once there), red; "a red". With the second: a a red cat;
    # "a red", "red cat"; "a red cat".
    references = ["a red dog.", "a red cat on a mat"]
    (line,) = explain("A red cat, a", references)
    assert line.endswith("1: 2, 4 of 4; 2: 1, 2 of 3; 3: 0, 1 of 2; 4: 0, 0 of 1")
    # what has no word shares none
    assert explain("", ["a dog"])[0].endswith("1: 0 of 0; 2: 0 of 0; 3: 0 of 0; 4: 0 of 0")
    for name in ("coco_captioning", "quic360"):
        assert get_task(name).working("A red cat, a", references) == [line]
