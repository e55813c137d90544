"""Documents: reading text, JSONL and Parquet files into one shape."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.lib
import pyarrow.parquet

from runs.errors import InputError

_HALVES = re.compile("[\ud800-\udfff]")
_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Document:
    """One text and the columns that came with it."""

    text: str
    columns: Mapping[str, Any]


def read_documents(
    path: Path, *, text: str = "text", columns: tuple[str, ...] = ()
) -> list[Document]:
    """Read the documents of one file.

    Parameters
    ----------
    path
        `.txt` (documents are separated by blank lines), `.jsonl` or `.parquet`.
    text
        Key or column that holds the text.
    columns
        Further keys or columns that every document must have.

    Returns
    -------
    list of Document
        In file order; documents of white space alone are left out.

    Raises
    ------
    InputError
        If the file is missing, unreadable, of another kind, or lacks a column; names file and row.
    """
    readers = {".txt": _text, ".md": _text, ".jsonl": _jsonl, ".parquet": _parquet, ".pq": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown kind of input; give .txt, .jsonl or .parquet")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: is not a regular file; save the text in one")  # a pipe may hang
    try:
        found = [
            to_document(path, row, where, text, columns)
            for where, row in reader(path, text, columns)
        ]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; set the input's `path`") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    except (pyarrow.lib.ArrowException, OSError) as error:
        line = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({line})") from None
    documents = [d for d in found if d.text.strip()]
    if not documents:
        raise InputError(f"{path}: holds no text")
    return documents


def _text(
    path: Path, text: str, columns: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if columns:
        raise InputError(
            f"{path}: plain text has no column `{columns[0]}`; use .jsonl or .parquet for labels"
        )
    for i, part in enumerate(_BLANK_LINES.split(path.read_text(encoding="utf-8"))):
        yield f"paragraph {i + 1}", {text: part}


def _jsonl(
    path: Path, text: str, columns: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8") as lines:
        for i, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}: line {i} is not valid JSON: {error.msg}") from None
            except (ValueError, RecursionError) as error:  # numbers or nesting beyond any use
                raise InputError(f"{path}: line {i} cannot be read ({error})") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {i} is not a JSON object")
            yield f"line {i}", row


def _parquet(
    path: Path, text: str, columns: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    table = pyarrow.parquet.ParquetFile(path)
    there = table.schema_arrow.names
    for name in (text, *columns):
        if name not in there:
            raise InputError(f"{path}: has no column `{name}`; it has {', '.join(there)}")
    row = 0
    for batch in table.iter_batches(columns=list(dict.fromkeys((text, *columns)))):
        for record in batch.to_pylist():
            row += 1
            yield f"row {row}", record


def to_document(
    path: Path, row: Mapping[str, Any], where: str, text: str, columns: tuple[str, ...]
) -> Document:
    """A row of a file as a document.

    Raises
    ------
    InputError
        If it lacks a column, or its text is no string that a tokenizer takes.
    """
    for name in (text, *columns):
        if name in row and row[name] is None:
            raise InputError(
                f"{path}: {where}: `{name}` is empty (null); leave such rows out, or name another column"
            )
        if name not in row:
            raise InputError(
                f"{path}: {where} has no `{name}`; it has {', '.join(map(str, row)) or 'nothing'}"
            )
    if not isinstance(row[text], str):
        raise InputError(f"{path}: {where}: `{text}` is not a string; name a column of text")
    for name in (text, *columns):
        # JSON can spell halves of surrogate pairs, which no tokenizer and no store takes.
        if not str(row[name]).isascii() and _HALVES.search(str(row[name])):
            raise InputError(f"{path}: {where}: `{name}` holds half a character (a lone surrogate)")
    return Document(row[text], {name: row[name] for name in columns})
