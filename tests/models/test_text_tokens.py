"""Tokens counted thousands at a time are as many as those that a model is sent."""

import os
import signal
from pathlib import Path

import pytest

from evaluation.example_checks import check_texts
from evaluation.prompting import Prompter
from models import chat, plain, text_tokens
from models.base import Family
from models.checkpoint import resolve
from models.encoding import Message
from models.loading import load_family
from tasks.base import Dataset, Example, Turn
from tasks.images import ArrayImage
from tasks.registry import get_task
from tests.models.tiny_families import NAMES, maker

TEXTS = (
    *(
        "",
        " ",
        "red",
        "what colour is it?",
        "  two  spaces ",
        "line\nbreak\n",
        "ends in a break\n\n",
    ),
    *(
        "Ünïcödé 🦓 日本語",
        "<image> and <eos> <|im_end|></s>",
        "a<image>b",
        "{{ braces }}",
        "x" * 90,
    ),
)


@pytest.fixture(scope="module", params=NAMES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp(request.param)
    maker(request.param)(folder)
    return load_family(resolve(str(folder)))


def conversations(family: Family) -> list[list[Message]]:
    asked: list[list[Message]] = [[("user", text)] for text in TEXTS]
    answered: list[list[Message]] = [
        [("user", question), ("assistant", TEXTS[(number + step) % len(TEXTS)])]
        for number, question in enumerate(TEXTS)
        for step in (0, 1, 5)
    ]
    longer: list[list[Message]] = []
    if family.takes_template:
        longer = [[*turns, ("user", "and?"), ("assistant", "so.")] for turns in answered]
    return asked + answered + longer


def test_a_batch_is_counted_as_its_conversations_are_tokenised(family: Family) -> None:
    batch = conversations(family)
    assert family.count_tokens(batch) == [len(family.tokenize(turns)[0]) - 1 for turns in batch]
    assert family.count_tokens([]) == []


def test_texts_are_whole_whatever_limit_the_tokenizer_has(family: Family) -> None:
    long = [("user", "red " * 300)]
    expected = len(family.tokenize(long)[0]) - 1
    backend = family.tokenizer.backend_tokenizer
    backend.enable_truncation(max_length=5)
    backend.enable_padding(length=700)
    assert family.count_tokens([long]) == [expected]


class Counter:
    """Calls of the tokenizer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        encode = text_tokens.encode_text

        def counted(*arguments: object, **named: object) -> list[int]:
            self.calls += 1
            return encode(*arguments, **named)  # type: ignore[arg-type]

        for module in (text_tokens, chat, plain):
            monkeypatch.setattr(module, "encode_text", counted)


def test_thousands_of_questions_take_a_handful_of_calls(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch: list[list[Message]] = [[("user", f"how many of {n}?")] for n in range(2000)]
    family.count_tokens(batch[:1])  # what is kept of a family is there
    counter = Counter(monkeypatch)
    assert len(set(family.count_tokens(batch))) < 9
    assert counter.calls < 5


def example(number: int, question: str, *answers: str) -> Example:
    image = ArrayImage(None, "none")
    turns = (Turn("user", question),)
    return Example(example_id=number, image=image, turns=turns, references=answers)


def examples() -> list[Example]:
    """Questions and answers of every length about the budget, one of them of wide letters."""
    words = [
        example(n, "red " * (n % 80), "no", "red " * (n // 80), "é" * (n % 7)) for n in range(480)
    ]
    return [*words, example(480, "red"), example(481, "é" * 30, "🦓" * 12)]


@pytest.mark.parametrize("with_answers", [True, False])
def test_those_over_the_budget_are_found_exactly(family: Family, with_answers: bool) -> None:
    budget = 64 + family.num_layout_tokens
    prompter = Prompter(family=family, template="{question}", max_length=budget)

    def is_over(asked: Example) -> bool:
        turn = ("user", asked.turns[0].text)
        sent: list[list[Message]] = [[turn]]
        if with_answers:
            sent = [[turn, ("assistant", answer.strip())] for answer in asked.references]
        return any(len(family.tokenize(turns)[0]) - 1 > budget for turns in sent)

    asked = examples()
    expected = [entry.example_id for entry in asked if is_over(entry)]
    found = [e.example_id for e in prompter.over_budget(asked, with_answers=with_answers)]
    assert found == expected
    assert 0 < len(expected) < len(asked)


class Given(Dataset):
    """Examples as they are."""

    def __init__(self, rows: list[Example]) -> None:
        super().__init__(get_task("vqav2"), "train", rows)

    def __getitem__(self, index: slice) -> "Given":
        return Given(list(self.rows[index]))

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.rows)


def test_the_first_over_the_budget_is_the_one_that_is_named(pico1: Path) -> None:
    family = load_family(resolve(str(pico1)))
    prompter = Prompter(family=family, template="{question}", max_length=64)
    short = [example(n, "red") for n in range(9000)]  # more than are tokenised at once
    over = [example(9000, "red " * 70, "no"), example(9001, "red " * 80, "no")]
    # <bos>, 70 words, the space behind them, the line break, no, <eos>
    with pytest.raises(ValueError, match="Example 9000 has 75 text tokens, the budget is 64"):
        check_texts(Given([*short, *over]), prompter, with_answers=True)


def test_a_forked_process_counts_after_its_parent_has_on_all_cores() -> None:
    """However it was forked: a test's own fork is none that multiprocessing knows of."""
    family = load_family(resolve("tiny"))
    batch: list[list[Message]] = [[("user", f"how many of {n}?")] for n in range(500)]
    expected = family.count_tokens(batch)  # starts the threads, which a fork does not take along
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if family.count_tokens(batch) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
