"""Text metrics: hand-worked values, slow BLEU and LCS read from the rules, what is passed on."""

import math
from collections import Counter
from pathlib import Path
from random import Random
from statistics import fmean

import pytest

from tasks.metrics import text
from tasks.metrics.captioning import CaptionScores, caption_scores
from tasks.metrics.text import text_scores, token_statistics

FAMILY = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr"]


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the caption metrics quick: METEOR takes seconds to start."""
    monkeypatch.setenv("PATH", str(tmp_path))


def random_examples(seed: int, number: int) -> tuple[list[str], list[list[str]]]:
    """Texts of few words, so that they overlap, with one to four references each."""
    random = Random(seed)

    def words(least: int) -> str:
        return " ".join(
            random.choices("abcde", weights=[5, 4, 3, 2, 1], k=random.randint(least, 9))
        )

    predictions = [words(0) for _ in range(number)]
    return predictions, [[words(1) for _ in range(random.randint(1, 4))] for _ in range(number)]


# exact match


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("A cat", 1.0),
        ("  two cats\n", 1.0),  # the second reference, which has outer white space too
        ("a cat", 0.0),  # case counts
        ("A cat.", 0.0),
        ("two \n cats", 1.0),  # a run of white space is one space
        ("twocats", 0.0),
        ("", 0.0),
    ],
)
def test_exact_match_is_equality_with_any_reference_but_for_white_space(
    prediction: str, expected: float
) -> None:
    scores = text_scores([prediction], [["A cat", "\ttwo\n cats "]])
    assert scores.metrics["exact_match"] == expected
    assert scores.values_per_example["exact_match"] == [expected]


def test_exact_match_is_a_share() -> None:
    scores = text_scores(["yes", "no", "red", "x"], [["yes"], ["yes"], ["blue", "red"], ["y"]])
    assert scores.metrics["exact_match"] == 0.5
    assert scores.values_per_example["exact_match"] == [1.0, 0.0, 1.0, 0.0]


# sacreBLEU


def sacrebleu(predictions: list[str], references: list[list[str]]) -> float | None:
    return text_scores(predictions, references).metrics["sacrebleu"]


def test_sacrebleu_gives_the_worked_value() -> None:
    # 4/5, 3/4, 2/3 and 1/2 of the 1- to 4-grams: their product is 1/5
    assert sacrebleu(["a b c d e"], [["a b c d f"]]) == pytest.approx(100 * 0.2**0.25)


def test_sacrebleu_halves_the_count_of_an_order_without_a_match_and_keeps_case() -> None:
    # 3/4, 2/3, 1/2, and 1/2 of a match in the one 4-gram: their product is 1/8
    assert sacrebleu(["A b c d"], [["a b c d"]]) == pytest.approx(100 * 0.125**0.25)


def test_sacrebleu_splits_punctuation_from_words() -> None:
    assert sacrebleu(["a cat, a dog."], [["a cat , a dog ."]]) == pytest.approx(100)


def test_sacrebleu_adds_up_over_examples() -> None:
    # 10 of 10, 8 of 8, 6 of 6, 4 of 4 n-grams; 10 tokens against 5 + 10
    predictions = ["a b c d e", "f g h i j"]
    references = [["a b c d e"], ["f g h i j k l m n o"]]
    assert sacrebleu(predictions, references) == pytest.approx(100 * math.exp(1 - 15 / 10))


def test_an_example_with_fewer_references_has_no_empty_one_instead() -> None:
    # All n-grams match; 9 tokens against 8 + 3. An empty second reference of "a" would be the
    # closest in length, make it 9 against 8 + 0 and the score 100.
    predictions = ["a b c d e f g h", "a"]
    references = [["a b c d e f g h", "x y"], ["a b c"]]
    assert sacrebleu(predictions, references) == pytest.approx(100 * math.exp(1 - 11 / 9))


def test_an_empty_reference_that_was_given_counts() -> None:
    assert sacrebleu(["a b c d e f g h", "a"], [["a b c d e f g h"], ["a b c", ""]]) == (
        pytest.approx(100)
    )


def slow_bleu(predictions: list[str], references: list[list[str]]) -> float:
    """Corpus BLEU-4 of texts without punctuation, orders without a match smoothed."""
    matched, total = [0] * 4, [0] * 4
    length = reference_length = 0
    for prediction, texts in zip(predictions, references, strict=True):
        words = prediction.split()
        others = [text.split() for text in texts]
        length += len(words)
        reference_length += min((abs(len(o) - len(words)), len(o)) for o in others)[1]
        for n in range(4):
            grams = [tuple(words[i : i + n + 1]) for i in range(len(words) - n)]
            for gram, count in Counter(grams).items():
                most = max(
                    sum(tuple(o[i : i + n + 1]) == gram for i in range(len(o) - n)) for o in others
                )
                matched[n] += min(count, most)
            total[n] += len(grams)
    product, halvings = 1.0, 0
    for hits, grams_of_order in zip(matched, total, strict=True):
        halvings += not hits
        product *= (hits or 0.5**halvings) / grams_of_order
    penalty = math.exp(min(0.0, 1 - reference_length / length))
    return 100 * penalty * product**0.25


@pytest.mark.parametrize("seed", range(20))
def test_random_texts_with_any_number_of_references_have_the_bleu_of_the_rule(seed: int) -> None:
    predictions, references = random_examples(seed, 15)
    assert len({len(texts) for texts in references}) > 1
    assert sacrebleu(predictions, references) == pytest.approx(slow_bleu(predictions, references))


def test_the_signature_tells_the_settings_and_whether_reference_numbers_differ() -> None:
    same = text_scores(["a", "b"], [["a", "b"], ["c", "d"]]).additions["sacrebleu_signature"]
    varied = text_scores(["a", "b"], [["a", "b"], ["c"]]).additions["sacrebleu_signature"]
    assert same.startswith("nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert varied.startswith("nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_a_sacrebleu_of_zero_for_want_of_four_tokens_is_said() -> None:
    short = text_scores(["a red cat", "no"], [["a red cat"], ["no"]])
    assert short.metrics["sacrebleu"] == 0
    assert [note for note in short.notes if "no prediction has four tokens" in note]
    long = text_scores(["a red cat", "x x x x"], [["a red cat"], ["no"]])
    assert not [note for note in long.notes if "sacrebleu" in note]


# rougeL


def rouge_l(prediction: str, *references: str) -> float:
    return text_scores([prediction], [list(references)]).values_per_example["rougeL"][0]


def test_rouge_l_gives_the_worked_value() -> None:
    # "the cat on mat": 4 of 5 predicted and 4 of 6 reference tokens; 2 * 4 / (5 + 6)
    assert rouge_l("the cat lies on mat", "The cat sat on the mat.") == pytest.approx(8 / 11)


def test_rouge_l_takes_the_best_reference_whatever_its_place() -> None:
    references = ["a dog", "a red cat", "x"]
    for order in (references, references[::-1]):
        assert rouge_l("a cat", *order) == pytest.approx(4 / 5)  # 2 * 2 / (2 + 3)


def test_rouge_l_does_not_stem() -> None:
    assert rouge_l("cats running", "cat runs") == 0.0


def test_rouge_l_takes_hyphens_for_spaces() -> None:
    assert rouge_l("T-shirt", "t shirt") == 1.0


def test_rouge_l_of_an_empty_prediction_is_zero() -> None:
    assert rouge_l("", "a") == 0.0


def test_rouge_l_is_blind_to_other_scripts_and_that_is_said() -> None:
    scores = text_scores(["고양이", "cat", "ß"], [["고양이"], ["고양이", "Cat"], ["ß"]])
    assert scores.values_per_example["rougeL"] == [0.0, 1.0, 0.0]
    assert scores.values_per_example["exact_match"] == [1.0, 0.0, 1.0]
    assert [note for note in scores.notes if "2 of 3 examples" in note]
    assert not [note for note in text_scores(["a"], [["A"]]).notes if "rougeL" in note]


def slow_common_length(first: list[str], second: list[str]) -> int:
    """Longest common subsequence by trying every subsequence of the first, longest first."""
    subsequences = (
        [word for position, word in enumerate(first) if chosen >> position & 1]
        for chosen in sorted(range(1 << len(first)), key=int.bit_count, reverse=True)
    )
    for words in subsequences:
        rest = iter(second)
        if all(word in rest for word in words):
            return len(words)
    raise AssertionError("the empty subsequence is in every list")


def test_random_texts_have_the_rouge_l_of_the_rule() -> None:
    predictions, references = random_examples(0, 60)
    expected = []
    for prediction, texts in zip(predictions, references, strict=True):
        words = prediction.split()
        common = [(slow_common_length(words, t.split()), len(t.split())) for t in texts]
        expected.append(max(2 * length / (len(words) + total) for length, total in common))
    scores = text_scores(predictions, references)
    assert scores.values_per_example["rougeL"] == pytest.approx(expected)
    assert scores.metrics["rougeL"] == pytest.approx(fmean(expected))
    assert len(set(expected)) > 10


# rouge_l, in any script


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("한국 식당 입니다", "큰 한국 식당", 4 / 6),  # 2 common words of 3 and 3
        ("식당", "방", 0.0),
        ("一只猫", "一只狗", 4 / 6),  # a character each: 2 common of 3 and 3
        ("ねこA1", "ねこ a1", 1.0),  # ね, こ, a1
        ("हिन्दी में", "हिन्दी", 2 / 3),  # marks do not cut a word: 1 common of 2 and 1
        ("Émile's", "émile s", 1.0),
        ("", "방", 0.0),
        ("?!", "방", 0.0),
    ],
)
def test_rouge_l_of_any_script_gives_the_worked_value(
    prediction: str, reference: str, expected: float
) -> None:
    assert text.rouge_l([prediction], [["x", reference]]) == [pytest.approx(expected)]


def test_rouge_l_of_any_script_is_googles_on_plain_text() -> None:
    predictions, references = random_examples(1, 40)
    predictions = [f"{prediction}. T-shirt's 12,5%" for prediction in predictions]
    values = text_scores(predictions, references).values_per_example["rougeL"]
    assert text.rouge_l(predictions, references) == pytest.approx(values)
    assert len(set(values)) > 10


# the COCO family


def test_spice_stands_last_where_it_is_asked_for() -> None:
    scores = text_scores(["a cat"], [["a cat"]], with_spice=True)
    assert list(scores.metrics)[-1] == "SPICE"
    assert "Java was not found" in scores.reasons["SPICE"]  # its own reason, not "not asked for"


def test_cider_of_each_example_is_there_where_there_is_cider() -> None:
    scores = text_scores(["a cat", "b"], [["a cat"], ["a dog"]])
    values = scores.values_per_example["CIDEr"]
    assert fmean(values) == pytest.approx(scores.metrics["CIDEr"])
    assert values[0] > values[1] == 0
    assert "CIDEr" not in text_scores(["?"], [["?"]]).values_per_example


def test_the_caption_figures_are_passed_on_under_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics: dict[str, float | None] = {
        name: float(n) for n, name in enumerate([*FAMILY, "SPICE"], 1)
    }
    metrics |= {"METEOR": None, "SPICE": None}
    reasons = {"METEOR": "it is Monday", "SPICE": "it was not asked for"}
    asked = []

    def fake(predictions, references, **options) -> CaptionScores:
        asked.append((predictions, references, options))
        return CaptionScores(metrics, reasons, [0.0], is_approximate=False)

    monkeypatch.setattr(text, "caption_scores", fake)
    scores = text_scores(["a"], [["b", "c"]])
    assert asked == [(["a"], [["b", "c"]], {"with_spice": False})]
    assert list(scores.metrics) == ["exact_match", "sacrebleu", "rougeL", *FAMILY]
    assert {name: scores.metrics[name] for name in FAMILY} == {
        **{"Bleu_1": 1.0, "Bleu_2": 2.0, "Bleu_3": 3.0, "Bleu_4": 4.0},
        **{"METEOR": None, "ROUGE_L": 6.0, "CIDEr": 7.0},
    }
    assert scores.reasons == {"METEOR": "it is Monday"}
    assert not scores.is_approximate
    assert not [note for note in scores.notes if "Java" in note]


def test_without_java_the_caption_figures_are_approximate_and_meteor_has_its_reason() -> None:
    predictions, references = ["a cat sat", "two dogs"], [["a cat"], ["two dogs", "dogs"]]
    scores = text_scores(predictions, references)
    captions = caption_scores(predictions, references, with_spice=False)
    assert {name: scores.metrics[name] for name in FAMILY} == {
        name: captions.metrics[name] for name in FAMILY
    }
    assert scores.metrics["METEOR"] is None
    assert scores.metrics["CIDEr"] is not None
    assert list(scores.reasons) == ["METEOR"]
    assert "Java was not found" in scores.reasons["METEOR"]
    assert scores.is_approximate
    assert [note for note in scores.notes if "without Java" in note]


def test_references_of_punctuation_alone_leave_the_caption_figures_out_and_say_why() -> None:
    scores = text_scores(["?", "!"], [["?"], ["?"]])
    assert scores.metrics["exact_match"] == 0.5
    assert [scores.metrics[name] for name in FAMILY] == [None] * len(FAMILY)
    assert set(scores.reasons) == set(FAMILY)
    assert "empty once punctuation is dropped" in scores.reasons["CIDEr"]
    assert not scores.reasons["CIDEr"].endswith(".")


# input


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "at least one example, got 0 predictions"),
        (["a", "b"], [["a"]], "got 2 predictions for 1 examples"),
        (["a", "b", "c"], [["a"], [], []], "2 of 3 examples have no reference.* is number 1"),
    ],
)
def test_what_cannot_be_scored_is_an_error(predictions, references, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_scores(predictions, references)


# token statistics


def test_token_statistics_give_the_worked_values() -> None:
    # "A", "cat", "." / none / "a", "red", "cat", ",", "a", "dog" / "dog": 10 tokens,
    # of which a cat . red , dog differ
    assert token_statistics(["A cat.", " \n", "a red cat, a dog", "dog"]) == {
        "num_texts": 4,
        "num_empty": 1,
        "mean_length": 2.5,
        "median_length": 2.0,  # of 0, 1, 3, 6
        "min_length": 0,
        "max_length": 6,
        "vocabulary_size": 6,
        "type_token_ratio": 0.6,
    }


@pytest.mark.parametrize(
    ("sentence", "length"),
    [
        ("고양이가 두 마리 있다.", 5),
        ("Die Größe der Straße", 4),
        ("u\u0308ber", 1),  # the umlaut as a mark of its own
        ("हिन्दी भाषा", 2),  # vowel signs are marks
        ("Два кота!", 3),
        ("猫が二匹", 1),
        ("it's 3.5 %", 7),
        ("snake_case", 1),
    ],
)
def test_words_of_any_script_are_tokens_and_so_is_each_other_character(
    sentence: str, length: int
) -> None:
    assert token_statistics([sentence])["max_length"] == length


def test_the_vocabulary_ignores_case_in_any_script() -> None:
    assert token_statistics(["Äpfel äpfel ÄPFEL Кот кот"])["vocabulary_size"] == 2


def test_texts_without_any_token_have_no_type_token_ratio() -> None:
    statistics = token_statistics(["", " "])
    assert statistics["type_token_ratio"] is None
    assert (statistics["num_empty"], statistics["mean_length"]) == (2, 0)


def test_statistics_of_no_texts_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one text, got 0"):
        token_statistics([])
