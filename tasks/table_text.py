"""The text of a table: in which encoding it is, and the records of CSV.

The encodings are those of Python, https://docs.python.org/3/library/codecs.html#standard-encodings.
"""

import codecs
import csv
import io
import logging
import re
import sys
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tasks.files import read_bytes

logger = logging.getLogger(__name__)

UTF_8 = "utf-8"
_MARKS = (  # the four bytes of UTF-32 begin as the two of UTF-16 do
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# what systems write where they do not write UTF-8; the stricter ones first
_USUAL = ("cp949", "cp932", "big5", "gb18030", "cp1252", "cp1251")
_UTF = {UTF_8, *(encoding for _, encoding in _MARKS)}
_NUM_SHOWN = 4
SIGNS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}  # between cells
_QUOTED = re.compile(r'"[^"]*"')
_HEAD = 1 << 20  # characters in which the header ends
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?")  # what Excel reads and writes before the header
CsvRecord = tuple[int, list[str], str]  # first line, from 1, cells, and as it is written


def check_encoding(name: str) -> None:
    """Raise ValueError unless Python knows a text encoding of this name."""
    try:
        "a".encode(name)
    except (LookupError, UnicodeError) as error:
        raise ValueError(
            f"--encoding {name} is no encoding of texts that Python knows; take one as cp949, "
            "cp1252, shift_jis, gb18030 or utf-16-le."
        ) from error


def encoding_of(content: bytes, named: str | None) -> str:
    """Return the encoding of a table: what its byte order mark says, else the named, else UTF-8."""
    by_mark = (encoding for mark, encoding in _MARKS if content.startswith(mark))
    return next(by_mark, codecs.lookup(named or UTF_8).name)


def read_text(path: Path, encoding: str | None, content: bytes | None = None) -> str:
    """Read a table as text, without a byte order mark.

    Args:
        path: of the table.
        encoding: where it has no byte order mark; None for UTF-8.
        content: of the file with its mark, where it has been read.

    Raises:
        ValueError: it cannot be read, or is in another encoding; names the line, and encodings
            under which all of it can be read, each with a few letters as it would read them.
    """
    content = read_bytes(path, keep_mark=True) if content is None else content
    found = encoding_of(content, encoding)
    if found == UTF_8 and (wide := utf_16_without_mark(content)):
        raise ValueError(
            f"{path} is not UTF-8 but most likely {wide}; pass --encoding {wide}, or save it as "
            "UTF-8."
        )
    try:
        text = content.decode(found)
    except UnicodeError as error:
        raise _refusal(content, path, found, getattr(error, "start", len(content))) from error
    if encoding and found not in _UTF and _is_utf8_too(content):
        logger.warning(
            "%s can be read as %s and as UTF-8 too: if its texts look wrong, the latter is right.",
            *(path, encoding),
        )
    return text


def _refusal(content: bytes, path: Path, encoding: str, start: int) -> ValueError:
    line = content[:start].decode(encoding, "ignore").count("\n") + 1
    if encoding != UTF_8:
        return ValueError(
            f"{path}, line {line} is not {encoding}; pass the encoding that the file is in as "
            "--encoding, or save it as UTF-8."
        )
    likely = likely_encodings(content, start)
    if not likely:
        return ValueError(f"{path}, line {line} is not UTF-8; save the file as UTF-8.")
    readings = ", ".join(f"{name} ('{text}')" for name, text in likely)
    return ValueError(
        f"{path}, line {line} is not UTF-8; it can be read as {readings}: pass the right one as "
        f"in --encoding {likely[0][0]}, or save the file as UTF-8."
    )


def _is_utf8_too(content: bytes) -> bool:
    """Return True where a table with other letters than ASCII is UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return not content.isascii()


def utf_16_without_mark(content: bytes) -> str | None:
    """Return UTF-16 of a byte order where many of the first bytes are zero."""
    low, high = content[1:64:2].count(0), content[:64:2].count(0)
    if max(low, high) < 4:
        return None
    return "utf-16-le" if low > high else "utf-16-be"


def likely_encodings(content: bytes, start: int) -> list[tuple[str, str]]:
    """Return usual encodings in which all of a table is text, the strictest first.

    Args:
        content: of the table.
        start: the place of the first byte that is not UTF-8.

    Returns:
        Each with the letters that it reads there, to choose by.
    """
    found = []
    for name in _USUAL:
        try:
            text = content.decode(name)
        except UnicodeDecodeError:
            continue
        letters = "".join(set(text))
        if all(unicodedata.category(sign)[0] != "C" or sign in "\r\n\t" for sign in letters):
            rest = content[start:].decode(name, "ignore")
            found.append((name, re.split(r"[,;\t\r\n\"']", rest)[0][:12]))
    return found[:_NUM_SHOWN]


def csv_records(path: Path, text: str) -> tuple[str, Iterator[CsvRecord]]:
    """Return the sign between the cells of a CSV table, and its records, the header first.

    Args:
        path: its suffix `.tsv` stands for tabs, another for commas; where another sign is more
            often in both the header and the line behind it, or alone in the header, it is that
            one; a first line `sep=;` wins.
        text: the table's.

    Raises:
        ValueError: while records are read, for a quote that is wrong; names the line.
    """
    usual, start = "\t" if path.suffix.lower() == ".tsv" else ",", 1
    lines = islice(filter(str.strip, io.StringIO(text[:_HEAD])), 2)
    first = [_QUOTED.sub("", line) for line in lines] or [""]

    def fit(sign: str) -> tuple[int, bool, int]:
        number = first[0].count(sign)
        return min(line.count(sign) for line in first), sign == usual and number > 0, number

    separator = max((usual, *SIGNS), key=fit)
    if match := _SEPARATOR_LINE.match(text):
        separator, start, text = match[1], 2, text[match.end() :]
    return separator, _records(path, text, separator, start)


def _records(path: Path, text: str, separator: str, start: int) -> Iterator[CsvRecord]:
    written: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            written.append(line)
            yield line

    limit = csv.field_size_limit(sys.maxsize)  # a cell may be longer than the module allows
    try:
        # strict: a quote that is never closed would otherwise swallow the rest of the file
        for cells in csv.reader(
            lines(), delimiter=separator, strict=True, skipinitialspace=separator != "\t"
        ):
            if cells:
                yield start, cells, "".join(written)
            start += len(written)
            written.clear()
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {start}: {error}; a quote inside a quoted text is written twice, and "
            "one that is opened must be closed."
        ) from error
    finally:
        csv.field_size_limit(limit)
