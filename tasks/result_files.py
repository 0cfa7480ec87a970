"""Result files: a split's predictions in its leaderboard's format or in our predictions.jsonl."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from common.files import write_chunks
from tasks.base import Dataset, Example, Task
from tasks.checks import check_ids, name_some
from tasks.files import read_bytes
from tasks.image_names import are_other_files


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """The answer to one question; the last three are known of our files only."""

    id: int | str
    text: str
    raw_text: str | None = None
    prompt: str | None = None
    references: list[str] | None = None


class OurPrediction(Prediction, frozen=True, gc=False):
    """A line of predictions.jsonl, with what was asked as it stands there, of whatever type."""

    question: Any = None
    image: Any = None
    images: Any = None  # where there are several

    @property
    def image_names(self) -> list[str]:
        """Return the names of its images; nothing where they are not known."""
        names = self.images if isinstance(self.images, list) else [self.image]
        return names if all(isinstance(name, str) for name in names) else []


_OUR_KEYS = {
    "id": "id",
    "text": "prediction",
    "raw_text": "raw_prediction",
    "prompt": "prompt",
    "references": "references",
}


def read_predictions(path: Path, task: Task) -> dict[int | str, Prediction]:
    """Read a result file of either format; which one, its first character tells.

    Returns:
        The predictions by id, whose type is the task's own.

    Raises:
        ValueError: unreadable, of neither format, empty, or with an id twice.
    """
    content = read_bytes(path)
    if content.lstrip()[:1] == b"{":
        found = list(_read_lines(content, path, task))
    else:
        id_key, text_key = task.result_keys
        record = _record(Prediction, task, _OUR_KEYS | {"id": id_key, "text": text_key})
        try:
            found = msgspec.json.decode(content, type=list[record], strict=False)  # type: ignore[valid-type]
        except msgspec.ValidationError as error:
            raise _refusal(path, task, error) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(
                f"{path} is not complete JSON ({error}); write it again, as {_accepted(task)}."
            ) from error
    predictions = {task.id_type(prediction.id): prediction for prediction in found}
    if len(predictions) < max(len(found), 1):
        check_ids((task.id_type(prediction.id) for prediction in found), str(path))
    return predictions


def match(
    examples: Sequence[Example],
    predictions: Mapping[int | str, Prediction],
    path: Path,
    where: str,
    *,
    allow_partial: bool = False,
) -> tuple[list[Example], str | None]:
    """Return the examples that have a prediction.

    Args:
        examples: the whole split.
        predictions: by id.
        path: where they were read, for messages.
        where: what the split is called in messages.
        allow_partial: leave out what only one side has, in place of refusing it.

    Returns:
        The examples, and what must be said of those left out, if any.

    Raises:
        ValueError: one side lacks ids of the other, nothing is left, or a file of ours was written
            for other references, questions or images.
    """
    ids = {example.example_id for example in examples}
    if len(ids) < len(examples):
        check_ids((example.example_id for example in examples), where)
    missing = [example_id for example_id in ids if example_id not in predictions]
    unknown = [key for key in predictions if key not in ids]
    _check_made_for(examples, predictions, path, where)
    if not missing and not unknown:
        return list(examples), None
    faults = []
    if missing:
        faults.append(f"no prediction for {len(missing)} of {len(ids)}: {_some(missing)}")
    if unknown:
        faults.append(f"{len(unknown)} that are not in it: {_some(unknown)}")
    sentence = f"{path} does not fit {where}, by id: {'; '.join(faults)}"
    if not allow_partial:
        raise ValueError(f"{sentence}. Give the split's whole file, or pass --allow_partial.")
    common = [example for example in examples if example.example_id in predictions]
    if not common:
        raise ValueError(f"{sentence}. No id is in both, so there is nothing to score.")
    return common, f"Partial: {sentence}. Only {len(common)} are scored."


def _check_made_for(
    examples: Sequence[Example],
    predictions: Mapping[int | str, Prediction],
    path: Path,
    where: str,
) -> None:
    """Refuse predictions that were made for other rows, as their file tells."""
    moved = {what: list[int | str]() for what in ("references", "images", "questions")}
    for example in examples:
        made_for = predictions.get(example.example_id)
        if made_for is not None and (what := _difference(example, made_for)):
            moved[what].append(example.example_id)
    for what, ids in moved.items():
        if ids:
            raise ValueError(
                f"{path} was written for other data than {where} is now: the {what} of "
                f"{len(ids)} of {len(examples)} examples differ, {_some(ids)}; predict anew, or "
                "give the data that it was written for."
            )


def _difference(example: Example, made_for: Prediction) -> str | None:
    """What a prediction was made for that the example has otherwise; only ours say the question."""
    known = made_for.references
    if known and example.references and tuple(known) != tuple(example.references):
        return "references"
    if isinstance(made_for, OurPrediction):
        if are_other_files(made_for.image_names, [image.name for image in example.images]):
            return "images"
        if isinstance(made_for.question, str) and made_for.question != example.turns[-1].text:
            return "questions"
    return None


def write_results(path: Path, task: Task, dataset: Dataset, predictions: Mapping[Any, str]) -> None:
    """Write a split's predictions as its leaderboard takes them, in the order of the questions.

    Args:
        path: the file.
        task: knows the keys of a record.
        dataset: the whole split.
        predictions: by id.

    Raises:
        ValueError: some question has no prediction, or one is not of this split.
    """
    ids = [example.example_id for example in dataset]
    if set(ids) != predictions.keys():
        raise ValueError(
            f"No results file: the leaderboard takes one prediction for each of the {len(ids)} "
            f"examples of split '{dataset.split}', and there are {len(predictions)}."
        )
    id_key, text_key = task.result_keys
    records = [{id_key: example_id, text_key: predictions[example_id]} for example_id in ids]
    write_chunks(path, [msgspec.json.encode(records), b"\n"])


def _read_lines(content: bytes, path: Path, task: Task) -> Iterator[Any]:
    decoder = msgspec.json.Decoder(_record(OurPrediction, task, _OUR_KEYS), strict=False)
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise _refusal(f"{path}, line {number},", task, error) from error


def _record(base: type[Prediction], task: Task, keys: Mapping[str, str]) -> Any:
    """A struct with a Prediction's fields under these keys, the others under their own names."""
    id_type = int if task.id_type is int else int | str
    return msgspec.defstruct(
        "Record",
        [
            ("id", id_type, msgspec.field(name=keys["id"])),
            ("text", str, msgspec.field(name=keys["text"])),
            ("raw_text", str | None, msgspec.field(name=keys["raw_text"], default=None)),
            ("prompt", str | None, msgspec.field(name=keys["prompt"], default=None)),
            (
                "references",
                list[str] | None,
                msgspec.field(name=keys["references"], default=None),
            ),
        ],
        bases=(base,),
        frozen=True,
        gc=False,
    )


def _refusal(where: object, task: Task, error: Exception) -> ValueError:
    return ValueError(f"{where} is no result file of {task.name}: {error}; give {_accepted(task)}.")


def _accepted(task: Task) -> str:
    id_key, text_key = task.result_keys
    kind = "number" if task.id_type is int else "text"
    return (
        f'[{{"{id_key}": {kind}, "{text_key}": text}}, …] or a predictions.jsonl that eval.py wrote'
    )


def _some(ids: Sequence[object]) -> str:
    return name_some(sorted(ids, key=str))
