"""Texts of a hub's data set: Parquet read row group by row group, a fixed sample of one commit, kept."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from runs.documents import Document, read_documents, to_document
from runs.errors import GoneError, HubError, InputError, line_of
from runs.hub.client import Broken, Notice, ask, session
from runs.hub.listing import commit_at, files_at, revisions_of

_EACH = 512  # rows of a row group in the first round, so that a sample is spread over the whole set
_CONVERTED = "refs/convert/parquet"  # where hubs put Parquet made from other formats
_NAMED = {"train": ("train", "training"), "test": ("test", "testing", "eval", "evaluation")}
_NAMED["validation"] = ("validation", "valid", "dev", "val")


_WHOLE = b"phasescope.whole"


@dataclass(frozen=True)
class TextSource:
    """One split of one configuration of a data set, at one commit.

    Attributes
    ----------
    dataset, config, split, commit : str
    text : str
        Column of the text.
    columns : tuple of str
        Further columns.
    seed : int or None
        Of the order; None is the order of the files.
    """

    dataset: str
    config: str
    split: str
    commit: str
    text: str
    columns: tuple[str, ...]
    seed: int | None

    @property
    def digest(self) -> str:
        """Names the sample."""
        told = json.dumps([str(v) for v in vars(self).values()])
        return hashlib.sha256(told.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.dataset} at {self.commit[:12]}"


@dataclass
class Sample:
    """The documents of a source in the order of its seed, as many as somebody takes.

    What is taken is kept on this disk (`keep`), and read from there the next time.

    Attributes
    ----------
    source : TextSource
    folder : Path
        Where samples are kept.
    notice
        Told of waits.
    """

    source: TextSource
    folder: Path
    notice: Notice = lambda _: None
    _taken: list[Document] = field(default_factory=list)
    _read: bool = False
    _whole: bool = False  # whether there is nothing beyond what was taken

    @property
    def path(self) -> Path:
        """Where the sample is kept."""
        name = self.source.dataset.replace("/", "--")
        return self.folder / f"{name}-{self.source.digest[:16]}.parquet"

    def __iter__(self) -> Iterator[Document]:
        kept = 0
        if self.path.is_file():
            columns = self.source.columns
            self._whole = _WHOLE in (pq.read_schema(self.path).metadata or {})
            for document in read_documents(self.path, text=self.source.text, columns=columns):
                kept += 1
                yield document
        if self._whole:
            return
        for number, document in enumerate(self._documents()):
            if number >= kept:
                self._read = True
                self._taken.append(document)
                yield document
        self._read = self._whole = True

    def keep(self) -> None:
        """Write what was taken beside what was kept already; nothing if nothing new was read."""
        if not self._read:
            return
        rows = {n: [document.columns[n] for document in self._taken] for n in self.source.columns}
        rows[self.source.text] = [document.text for document in self._taken]
        table = pyarrow.table(rows)
        if self.path.is_file():
            table = pyarrow.concat_tables(
                [pq.read_table(self.path), table.select(_names(self.path))]
            )
        table = table.replace_schema_metadata({_WHOLE: b"yes"} if self._whole else None)
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.draft")
        pq.write_table(table, draft)
        draft.replace(self.path)
        self._taken.clear()
        self._read = False

    def _documents(self) -> Iterator[Document]:
        place = Path(f"{self.source.dataset}/{self.source.config}/{self.source.split}")
        names = (self.source.text, *self.source.columns)
        for where, row in self._rows(tuple(dict.fromkeys(names))):
            document = to_document(place, row, where, self.source.text, self.source.columns)
            if document.text.strip():
                yield document

    def _rows(self, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rows in order; with a seed, row groups in its order, some rows of each, then the rest."""
        seed = self.source.seed
        files = parquet_files(self.source, self.notice)
        readers = [_Reader(self.source, file, names, self.notice) for file in files]
        if seed is None:
            for reader in readers:
                for group in range(reader.groups):
                    yield from reader.rows(group)
            return
        places = [(r, group) for r in readers for group in range(r.groups)]
        random.Random(f"{seed} groups").shuffle(places)
        for first in (True, False):
            for reader, group in places:
                count = reader.size(group)
                if not first and count <= _EACH:
                    continue
                order = list(range(count))
                random.Random(f"{seed} {reader.name} {group}").shuffle(order)
                rows = list(reader.rows(group))
                chosen = order[:_EACH] if first else order[_EACH:]
                yield from (rows[i] for i in chosen)


def _names(path: Path) -> list[str]:
    return list(pq.read_schema(path).names)


def text_source(
    dataset: str,
    folder: Path,
    *,
    config: str | None,
    split: str,
    revision: str,
    text: str,
    columns: Sequence[str],
    seed: int | None,
    commit: str = "",
    notice: Notice = lambda _: None,
) -> TextSource:
    """A source pinned to a commit: the one that is given, else what the revision stands for now.

    Out of reach of the hub, it is what the revision stood for when it was last asked; `folder` keeps that
    beside the samples.
    """
    last = folder / f"{dataset.replace('/', '--')}@{revision.replace('/', '%2F')}.commit"
    if not commit:
        try:
            commit = commit_at(dataset, revision, kind="dataset", notice=notice)
            folder.mkdir(parents=True, exist_ok=True)
            last.write_text(commit)
        except HubError:
            if not last.is_file():
                raise
            commit = last.read_text()
    return TextSource(dataset, config or "", split, commit, text, tuple(columns), seed)


def parquet_files(source: TextSource, notice: Notice = lambda _: None) -> list[_Place]:
    """The Parquet files of a source, by its card's `configs`, by their names, or of the hub's conversion.

    Raises
    ------
    InputError
        If it has none, or no such configuration or split; the line lists what there is.
    """
    listed = files_at(source.dataset, source.commit, kind="dataset", notice=notice)
    names = sorted(f.path for f in listed)
    sizes = {f.path: f.size for f in listed}
    found = _of_card(source, names, notice)
    if found is None:
        found = _by_name(source, [n for n in names if n.endswith(".parquet")])
    commit = source.commit
    if found is None:
        commit = revisions_of(source.dataset, kind="dataset", notice=notice).get(_CONVERTED, "")
        commit = commit or _converted(source, notice)
        listed = files_at(source.dataset, commit, kind="dataset", notice=notice)
        sizes = {f.path: f.size for f in listed}
        base = f"{source.config or 'default'}/{source.split}/"
        found = sorted(n for n in sizes if n.startswith(base) and n.endswith(".parquet"))
    if not found:
        raise InputError(
            f"{source.dataset}: no Parquet file of configuration `{source.config or 'default'}`, split "
            f"`{source.split}`; there are {', '.join(sorted(sizes)[:6])}"
        )
    return [_Place(commit, name, sizes[name]) for name in found]


@dataclass(frozen=True)
class _Place:
    commit: str
    path: str
    size: int


def _converted(source: TextSource, notice: Notice) -> str:
    """The commit of the hub's conversion to Parquet; not every list of revisions has it."""
    try:
        return commit_at(source.dataset, _CONVERTED, kind="dataset", notice=notice)
    except GoneError:
        raise InputError(
            f"{source.dataset}: has no Parquet files, and the hub has made none of it; download it and "
            "give `path`"
        ) from None


def _of_card(source: TextSource, names: Sequence[str], notice: Notice) -> list[str] | None:
    """Files that the card's `configs` name; None if it has no such list."""
    if "README.md" not in names:
        return None
    configs = _configs(_card(source, notice))
    if not configs:
        return None
    by_name = {str(c.get("config_name", "default")): c for c in configs}
    chosen = source.config or next(
        (n for n, c in by_name.items() if c.get("default")),
        "default" if "default" in by_name else "",
    )
    if not chosen and len(by_name) == 1:
        chosen = next(iter(by_name))
    if chosen not in by_name:
        raise InputError(
            f"{source.dataset}: has no configuration `{chosen}`; set `config` to one of "
            f"{', '.join(list(by_name)[:8])}{' …' if len(by_name) > 8 else ''}"
        )
    table = by_name[chosen]
    if "data_files" not in table:
        return None
    splits = _splits(table["data_files"])
    if source.split not in splits:
        raise InputError(
            f"{source.dataset}: configuration `{chosen}` has no split `{source.split}`; it has "
            f"{', '.join(splits)}"
        )
    base = str(table.get("data_dir", "")).strip("/")
    patterns = [f"{base}/{p}" if base else p for p in splits[source.split]]
    found = [n for n in names if n.endswith(".parquet") and any(_fits(n, p) for p in patterns)]
    return found or None


def _configs(card: str) -> list[dict[str, Any]]:
    import yaml

    match = re.match(r"\s*---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    try:
        content = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        return []
    configs = content.get("configs") if isinstance(content, dict) else None
    return [c for c in configs if isinstance(c, dict)] if isinstance(configs, list) else []


def _card(source: TextSource, notice: Notice) -> str:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    url = hf_hub_url(source.dataset, "README.md", revision=source.commit, repo_type="dataset")

    def call() -> str:
        answer = session().get(url, headers=build_hf_headers(), follow_redirects=True)
        hf_raise_for_status(answer)
        return str(answer.text)

    return ask(f"{source}: README.md", call, notice=notice)


def _splits(files: Any) -> dict[str, list[str]]:
    """`data_files` of a card in its several spellings, as patterns by split."""
    if isinstance(files, str):
        return {"train": [files]}
    found: dict[str, list[str]] = {}
    rows = files.items() if isinstance(files, dict) else files
    for row in rows if rows is not None else ():
        if isinstance(row, str):
            found.setdefault("train", []).append(row)
            continue
        split, paths = (
            (row.get("split", "train"), row.get("path", [])) if isinstance(row, dict) else row
        )
        found.setdefault(str(split), []).extend([paths] if isinstance(paths, str) else paths)
    return found


def _fits(name: str, pattern: str) -> bool:
    """A path against a pattern in which `*` stays within a folder and `**` does not."""
    pattern = pattern.removeprefix("./")
    if "**" not in pattern and name.count("/") != pattern.count("/"):
        return False
    return fnmatch(name, pattern.replace("**/", "*"))


def _by_name(source: TextSource, names: Sequence[str]) -> list[str] | None:
    """Files whose folder or name says the split, within a folder of the configuration's name."""
    if not names:
        return None
    if source.config and source.config != "default":
        inside = [n for n in names if source.config in n.split("/")[:-1]]
        if not inside:
            raise InputError(
                f"{source.dataset}: has no configuration `{source.config}`; its files are "
                f"{', '.join(names[:4])}"
            )
        names = inside
    words = _NAMED.get(source.split, (source.split,))
    sign = re.compile(rf"(^|[-_./ ])({'|'.join(map(re.escape, words))})([-_./ ]|$)")
    found = [n for n in names if sign.search(n)]
    every = re.compile(
        rf"(^|[-_./ ])({'|'.join(w for v in _NAMED.values() for w in v)})([-_./ ]|$)"
    )
    if not found and source.split == "train" and not any(every.search(n) for n in names):
        return list(names)
    return found


class _Remote(io.RawIOBase):
    """A file of a hub that is read by ranges."""

    def __init__(self, source: TextSource, place: _Place, notice: Notice) -> None:
        from huggingface_hub import hf_hub_url

        self._about = f"{source.dataset} at {place.commit[:12]}: {place.path}"
        self._url = hf_hub_url(
            source.dataset, place.path, revision=place.commit, repo_type="dataset"
        )
        self._size, self._at, self._notice = place.size, 0, notice

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def seekable(self) -> bool:
        """By ranges."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        self._at = starts[whence] + offset
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, short of it only at the end."""
        size = min(len(buffer), self._size - self._at)
        if size > 0:
            buffer[:size] = ask(self._about, lambda: self._range(size), notice=self._notice)
            self._at += size
        return max(size, 0)

    def _range(self, size: int) -> bytes:
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        span = f"bytes={self._at}-{self._at + size - 1}"
        headers = build_hf_headers() | {"Range": span, "Accept-Encoding": "identity"}
        answer = session().get(self._url, headers=headers, follow_redirects=True)
        hf_raise_for_status(answer)
        content: bytes = answer.content
        if answer.status_code == 200:  # the server knows no ranges
            content = content[self._at : self._at + size]
        if len(content) != size:
            raise Broken(f"{len(content):,} of {size:,} bytes came")
        return content


class _Reader:
    """Rows of one Parquet file, a row group at a time; opened when first asked."""

    def __init__(
        self, source: TextSource, place: _Place, names: tuple[str, ...], notice: Notice
    ) -> None:
        self.name = place.path
        self._source, self._place, self._names, self._notice = source, place, names, notice
        self._file: pq.ParquetFile | None = None

    @property
    def groups(self) -> int:
        """Row groups of the file."""
        return int(self._open().num_row_groups)

    def size(self, group: int) -> int:
        """Rows of a group."""
        return int(self._open().metadata.row_group(group).num_rows)

    def rows(self, group: int) -> Iterable[tuple[str, dict[str, Any]]]:
        """The wanted columns of a group's rows, and where each is."""
        try:
            table = self._open().read_row_group(group, columns=list(self._names))
        except (pyarrow.lib.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        for number, row in enumerate(table.to_pylist()):
            yield f"{self.name}, row group {group}, row {number}", row

    def _open(self) -> pq.ParquetFile:
        if self._file is not None:
            return self._file
        try:
            file = pq.ParquetFile(_Remote(self._source, self._place, self._notice), pre_buffer=True)
        except (pyarrow.lib.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        there = file.schema_arrow.names
        for name in self._names:
            if name not in there:
                raise InputError(
                    f"{self._source.dataset}: {self.name} has no column `{name}`; it has "
                    f"{', '.join(there)}"
                )
        self._file = file
        return file

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(
            f"{self._source}: {self.name} is no Parquet file that can be read ({line_of(error)})"
        )
