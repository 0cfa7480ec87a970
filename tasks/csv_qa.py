"""CSV question answering: any table with a picture, an instruction and a response in each row.

Nobody published a protocol for such tables, so the headline needs no program beside Python and
knows every script: ROUGE-L (https://aclanthology.org/W04-1013) over Unicode words. The other
figures are those of `tasks/metrics/text.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import msgspec

from tasks.base import Dataset, Example, ImageRef, MissingSplit, Scores, Source, Task, Turn
from tasks.checks import name_some
from tasks.hub import HubCopy, is_hub_copy, open_hub_copy
from tasks.images import FileImage
from tasks.tables import SUFFIXES, read_rows, text_cell
from tasks.tables import Row as TableRow

_COLUMNS = {
    "image": ("image", "url", "image_path"),
    "instruction": ("instruction", "query"),
    "response": ("response", "annotation"),
}
_FILE_NAMES = {"train": ("train",), "val": ("valid", "val", "validation"), "test": ("test",)}
_OPTIONS = {split: f"--{split}_csv (eval.py: --csv)" for split in _FILE_NAMES}
_HUB_SPLITS = {"val": "validation"}


class Row(msgspec.Struct, frozen=True):
    """A row of a table; or, of several with one picture and instruction, all their responses."""

    number: int
    image: ImageRef
    instruction: str
    responses: tuple[str, ...]


class HubRow(msgspec.Struct, frozen=True):
    """The texts of a row of a Hub copy."""

    instruction: str
    response: str | list[str]


class CsvQa(Task):
    """Instructions about pictures, from a table of one's own, scored by ROUGE-L per example."""

    name = "csv_qa"
    aliases: ClassVar[tuple[str, ...]] = ("csv",)
    metric = "rouge_l"
    metric_range = 1.0
    max_new_tokens = 128
    max_length = 512
    prompts: ClassVar = {"default": "{question}"}
    eval_splits = ("test", "val")
    selection_split = "val"  # a test table chooses no checkpoint
    rule = "ROUGE-L F-measure over Unicode words, the best reference, mean over examples"
    rule_source = "https://aclanthology.org/W04-1013"
    reads_tables = True
    default_root: ClassVar[Path | None] = None  # where the tables lie if nothing else is said

    def load(self, split: str, source: Source) -> Dataset:
        """Read the split's table, or a Hub copy with these columns; each row is an example."""
        self.check_split(split)
        wanted = f"{self.name} split '{split}'"
        if split not in source.files and is_copy(source):
            return Dataset(self, split, self.grouped(_hub_rows(source, split, wanted)))
        path = self._table(split, source, wanted)
        others = []
        for other in sorted({*self.splits} - {split}):
            with suppress(MissingSplit):
                others.append(self._table(other, source, wanted))
        return Dataset(self, split, self.grouped(_table_rows(path, others, source, wanted)))

    def grouped(self, rows: Iterable[Row]) -> list[Row]:
        """The rows as examples: each one by itself."""
        return list(rows)

    def example(self, row: Row) -> Example:
        """Ask the instruction as it stands."""
        return Example(
            example_id=row.number,
            image=row.image,
            turns=(Turn("user", row.instruction),),
            references=row.responses,
        )

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """ROUGE-L of each example, then the figures of free-form text."""
        return text_figures(predictions, examples, headline=self.metric)

    def score_headline(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """ROUGE-L alone."""
        from tasks.metrics.text import rouge_l

        values = rouge_l(predictions, [example.references for example in examples])
        return Scores(values=values, figures={self.metric: fmean(values)})

    def _table(self, split: str, source: Source, wanted: str) -> Path:
        if path := source.files.get(split):
            return path
        root = source.data_root or self.default_root
        names = [f"{stem}{suffix}" for stem in _FILE_NAMES[split] for suffix in SUFFIXES]
        if root is None:
            raise MissingSplit(f"No table of {wanted}: name it by {_OPTIONS[split]}.")
        for name in names:
            if (root / name).is_file():
                return root / name
        raise MissingSplit(
            f"No table of {wanted} under {root}: looked for {', '.join(names)}; name it by "
            f"{_OPTIONS[split]}."
        )


def text_figures(
    predictions: Sequence[str], examples: Sequence[Example], *, headline: str
) -> Scores:
    """Every figure that free-form text is scored by, and what the texts look like.

    Args:
        predictions: cleaned texts.
        examples: with references.
        headline: `rouge_l` or `CIDEr`, which comes first and is broken down to the examples.

    Raises:
        ValueError: there is no CIDEr, as no reference has a word.
    """
    from tasks.metrics.text import rouge_l, text_scores, token_statistics

    references = [example.references for example in examples]
    scores = text_scores(predictions, references, with_spice=True)
    rouge = rouge_l(predictions, references)
    values = {**scores.values_per_example, "rouge_l": rouge}
    if headline not in values:
        raise ValueError(f"{headline} cannot be computed: {scores.reasons[headline]}.")
    figures = {**scores.figures, "rouge_l": fmean(rouge)}
    return Scores(
        values=values[headline],
        figures={headline: figures[headline]} | figures,
        reasons=scores.reasons,
        notes=scores.notes,
        additions={
            "sacrebleu_signature": scores.sacrebleu_signature,
            "token_statistics": {
                "predictions": token_statistics(predictions),
                "references": token_statistics([text for texts in references for text in texts]),
            },
        },
    )


def is_copy(source: Source) -> bool:
    """Whether `datasets` reads this source; without a folder tables are meant, not the Hub."""
    return source.hub_repo is not None or (source.data_root is not None and is_hub_copy(source))


def _hub_rows(source: Source, split: str, wanted: str) -> Iterable[Row]:
    copy = HubCopy(source.hub_repo or "", _HUB_SPLITS.get(split, split))
    table = open_hub_copy(source, copy, wanted, _COLUMNS)
    image = table.images()
    for index, row in enumerate(table.rows(HubRow)):
        where = f"{table.name}, row {index}"
        yield Row(index, image(index), *_texts(row.instruction, row.response, where))


def _table_rows(path: Path, others: Sequence[Path], source: Source, wanted: str) -> list[Row]:
    rows = _read(path, source, _COLUMNS)
    places = {number: _place(cells["image"], path, number) for number, cells in rows}
    image = _image_finder(path, others, source, _local_names(places, path), wanted)
    return [
        Row(
            number,
            image(places[number]),
            *_texts(cells["instruction"], cells["response"], f"{path}, line {number}"),
        )
        for number, cells in rows
    ]


def _read(path: Path, source: Source, names: Iterable[str]) -> list[TableRow]:
    columns = {name: _candidates(source.columns.get(name), _COLUMNS[name]) for name in names}
    return read_rows(path, columns, lenient=source.lenient)


def _candidates(named: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The names to look for: the one given, and of a known one its synonyms in other tables."""
    if named is None:
        return known
    return (named, *known) if named in known else (named,)


def _place(cell: Any, path: Path, number: int) -> str:
    """The path or URL of a row's picture."""
    if isinstance(cell, dict | bytes):
        raise ValueError(
            f"{path} holds the pictures themselves, not their paths; read it by --hub_repo "
            f"{path.parent}, which takes such a folder too."
        )
    return text_cell(cell, f"{path}, line {number}, column of the image")


def _texts(instruction: Any, response: Any, where: str) -> tuple[str, tuple[str, ...]]:
    """The instruction and every accepted response of a row."""
    responses = response if isinstance(response, list) and response else [response]
    return text_cell(instruction, f"{where}, column of the instruction"), tuple(
        text_cell(text, f"{where}, column of the response") for text in responses
    )


def _image_finder(
    path: Path, others: Sequence[Path], source: Source, names: Mapping[str, str], wanted: str
) -> Callable[[str], FileImage]:
    """What gives the picture of a cell, a path or a URL, all of which are looked for at once.

    A URL's picture lies under the URL's last part, which two URLs may share. In one table that is
    refused; in the tables of two splits only where both would open the same file, so that tables
    in folders of their own may each have a `1.jpg` beside them.

    Args:
        path: the table.
        others: the tables of the other splits.
        source: where pictures may lie.
        names: each cell -> the path to look for.
        wanted: what an error calls the data.

    Raises:
        ValueError: pictures are missing, counted and some of them named; or two URLs would be one
            file.
    """
    _check_distinct(names, path)
    folders = _folders(path, source)
    found = {place: _first_file(folders, name) for place, name in names.items()}
    missing = [names[place] for place, file in found.items() if file is None]
    if missing and source.with_images:
        looked = ", ".join(map(str, folders[:-1]))
        raise ValueError(
            f"{wanted}: {len(missing)} of the {len(names)} pictures that {path} names are "
            f"missing: {name_some(missing)}; put them into one of {looked}, a URL's under the last "
            "part of the URL."
        )
    if source.with_images:
        _check_others({p: file for p, file in found.items() if file}, path, others, source)
    images = {
        place: FileImage(str(file or folders[0] / names[place])) for place, file in found.items()
    }
    return images.__getitem__


def _folders(path: Path, source: Source) -> list[Path]:
    roots = dict.fromkeys([source.data_root or path.parent, path.parent])
    # a path may also be as a script would open it, from the current folder
    return [folder for root in roots for folder in (root, root / "images")] + [Path()]


def _local_names(places: Mapping[int, str], path: Path) -> dict[str, str]:
    """Each cell -> the path under which its picture lies: of a URL its last part, else the cell."""
    return {
        place: _last_part(place, f"{path}, line {number}") if _is_url(place) else place
        for number, place in places.items()
    }


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _last_part(url: str, where: str) -> str:
    try:
        return unquote(urlsplit(url).path).rpartition("/")[2] or url
    except ValueError as error:
        raise ValueError(
            f"{where}: '{url}' is no URL ({error}); correct it, or write the path of the picture."
        ) from error


def _check_distinct(names: Mapping[str, str], path: Path) -> None:
    """Refuse two URLs that end alike: one file would stand for two pictures."""
    first: dict[str, str] = {}
    for place, name in names.items():
        if first.setdefault(name, place) != place:
            raise ValueError(
                f"{path} names the pictures {first[name]} and {place}, which would be one file, "
                f"{name}; save them under names of their own and write these into the table."
            )


def _check_others(
    found: Mapping[str, Path], path: Path, others: Sequence[Path], source: Source
) -> None:
    """Refuse a URL of another split whose picture would be the file of another URL of this one."""
    urls = {file.name: place for place, file in found.items() if _is_url(place)}
    for other in others if urls else ():
        try:
            rows = _read(other, source, ["image"])
            places = {number: _place(cells["image"], other, number) for number, cells in rows}
            names = _local_names(places, other)
        except ValueError:
            continue  # what is wrong with it is said when its own split is read
        folders = _folders(other, source)
        for place, name in names.items():
            url = urls.get(name, place)
            if url == place or not _is_url(place):
                continue
            file = _first_file(folders, name)
            if file and file.samefile(found[url]):
                raise ValueError(
                    f"{path} names the picture {url} and {other} {place}, which would be one file, "
                    f"{file}; keep each table with its pictures in a folder of its own, or save "
                    "these two under names of their own and write these into the tables."
                )


def _first_file(folders: Sequence[Path], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
