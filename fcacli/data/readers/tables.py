"""Rows of the tables that come with datasets (JSON lists, JSON lines, CSV, Parquet), one by one, whatever their size.

Text that is not UTF-8 comes through with surrogates (see `is_text`), so that one bad row does not cost the others.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fcacli.errors import FcaError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

CHUNK = 2**20
"""Characters of a JSON list that are read at a time."""
LONGEST_ROW = 2**24
"""Characters; no row of any dataset comes near."""
LONGEST_NUMBER = 64
"""Characters."""
LARGEST_GROUP = 2**30
"""Bytes that a row group of a Parquet file may unpack to, of the columns read."""


def lines(path: Path) -> Iterator[str]:
    """Lines as editors count them, without their end and without a byte-order mark.

    Raises:
        FcaError: the file cannot be read, or a line has no end.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
            while line := file.readline(LONGEST_ROW):
                if len(line) == LONGEST_ROW:
                    raise FcaError(f"{path} has a line of more than {LONGEST_ROW:,} characters")
                yield line.rstrip("\r\n")
    except OSError as error:
        raise FcaError(f"cannot read {path}: {error.strerror or error}") from None


def jsonl_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and value of each line that is not blank; the value of a broken one is an FcaError."""
    for number, line in enumerate(lines(path), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, FcaError(f"{path} line {number} is not valid JSON: {error}")


def csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and row of each, by the names in the first line; a row of another length is left to `row_fault`.

    Raises:
        FcaError: it is not CSV.
    """
    try:
        rows = csv.DictReader((line + "\n" for line in lines(path)), strict=True)
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise FcaError(f"{path} is not valid CSV: {error}") from None


def csv_names(path: Path) -> list[str]:
    """The columns of a CSV file.

    Raises:
        FcaError: it is not CSV.
    """
    try:
        return next(csv.reader((line + "\n" for line in lines(path)), strict=True), [])
    except csv.Error as error:
        raise FcaError(f"{path} is not valid CSV: {error}") from None


def json_list(path: Path) -> Iterator[Any]:
    """The values of a file that holds one JSON list, which may be larger than the memory.

    Raises:
        FcaError: it is not JSON, or something else than a list.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            text = _Text(file)
            if (mark := text.mark()) != "[":
                kind = {"{": "an object", '"': "text", "n": "null", "t": "a boolean", "f": "a boolean"}.get(mark, "a number")
                if mark and mark in '{"ntf-0123456789':
                    raise FcaError(f"{path} should hold a list, found {kind}", "is it the right file?")
                raise ValueError("expected a list")
            text.place += 1
            mark = "]" if text.mark() == "]" else ","
            if mark == "]":
                text.place += 1
            while mark == ",":
                yield text.value()
                if (mark := text.mark()) not in (",", "]"):
                    raise ValueError(f"expected ',' or ']', found {mark!r}" if mark else "it ends in the middle")
                text.place += 1
            if text.mark():
                raise ValueError("something follows the list")
    except FileNotFoundError:
        raise FcaError(f"{path} does not exist") from None
    except OSError as error:
        raise FcaError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise FcaError(f"{path} is not valid JSON: {error}") from None


class _Text:
    """A file's text from `place` on, of which only a part is in memory."""

    def __init__(self, file: TextIO):
        self.file, self.text, self.place = file, "", 0
        self.decoder = json.JSONDecoder()

    def mark(self) -> str:
        """The next character that is no space, "" at the end; `place` moves there."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in " \t\r\n":
                self.place += 1
            if self.place < len(self.text) or not self._more():
                return self.text[self.place : self.place + 1]

    def value(self) -> Any:
        """The JSON value at the next mark."""
        self.mark()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.place)
            except ValueError:
                if len(self.text) - self.place > LONGEST_ROW or not self._more():
                    raise
                continue
            if len(self.text) - end > LONGEST_NUMBER or not self._more():  # "-1." may go on
                self.place = end
                return value

    def _more(self) -> bool:
        if chunk := self.file.read(CHUNK):
            self.text, self.place = self.text[self.place :] + chunk, 0
        return bool(chunk)


def parquet_names(path: Path) -> list[str]:
    """The columns of a Parquet file, those inside structures by their path.

    Raises:
        FcaError: it is not Parquet.
    """
    with _parquet(path) as file:
        return list(file.schema_arrow.names)


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, of these columns; one that is not there is left out.

    Raises:
        FcaError: it is not Parquet, or damaged, or unpacks to more than memory can be had for.
    """
    with _parquet(path) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            row_group = file.metadata.row_group(group)
            chunks = [row_group.column(index) for index in range(row_group.num_columns)]
            read = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in there or chunk.path_in_schema in there]
            if sum(chunk.total_uncompressed_size for chunk in read) > LARGEST_GROUP:
                raise FcaError(f"{path} unpacks to more than {LARGEST_GROUP / 1e9:.0f} GB")
        for batch in file.iter_batches(batch_size=1024, columns=there, use_threads=False):
            yield from batch.to_pylist()


@contextmanager
def _parquet(path: Path) -> "Iterator[ParquetFile]":
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path, thrift_string_size_limit=2**26, thrift_container_size_limit=2**24) as file:
            yield file
    except FileNotFoundError:
        raise FcaError(f"{path} does not exist") from None
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FcaError(f"{path} is not a Parquet file that can be read: {str(error).splitlines()[0]}") from None
