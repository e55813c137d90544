"""Building an ∞-gram index: a suffix array over token documents, made by the infini-gram package."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from runs.damage import named_errors
from runs.errors import InputError, line_of
from runs.models.atomic import whole
from runs.packages import require_extra

MANIFEST = "phasescope-index.json"
IDS = "ids.npy"
BOUNDARY = 65535  # two bytes 0xff stand before every document
END = 65534  # what the engine calls a boundary in its answers; no token may have this number
UNKNOWN = 65533  # stands for tokens that the documents do not have


def require_engine(where: str) -> None:
    """Refuse to go on without the ∞-gram engine, which makes and reads an index."""
    require_extra("memorisation", "infini-gram", where=where)


def build_index(documents: Iterable[Sequence[int]], folder: str | Path, *, note: str = "") -> Path:
    """Index token documents, so that any sequence can be counted in them.

    Parameters
    ----------
    documents
        Token ids of each document, 0 or more; empty ones are left out. A sequence never runs over
        the end of a document.
    folder
        The index; it is there whole or not at all. One that is there is left as it is.
    note
        Kept in the manifest.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the engine is missing, there is no token, the documents have more than 65,533 different
        tokens, or the indexer fails.

    Notes
    -----
    A suffix array of 16-bit tokens: tokens of a larger vocabulary are numbered anew by those in use.
    One thread, because several split a small corpus wrongly without saying so; an empty document
    ends the corpus, without which counts of what follows its last tokens are wrong. Costs about 4 s and
    60 MB of disk for 10 million tokens; memory: the tokens, as 16-bit numbers and once as they come.
    """
    target = Path(folder)
    require_engine(str(target))
    if (target / MANIFEST).is_file():
        return target
    kept = [np.asarray(d, np.int64) for d in documents if len(d)]
    if not kept:
        raise InputError(f"{target}: the documents hold no token to index")
    ids = _numbering(kept, target)
    with named_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial:
            partial.mkdir()
            offsets = _write_tokens(partial / "tokenized.0", kept, ids)
            (partial / "offset.0").write_bytes(np.array(offsets, "<u8").tobytes())
            _make_suffix_array(partial)
            if ids is not None:
                np.save(partial / IDS, ids)
            told = {
                "documents": len(kept),
                "tokens": int(sum(map(len, kept))),
                "renumbered": ids is not None,
                "note": note,
            }
            (partial / MANIFEST).write_text(json.dumps(told, indent=1), encoding="utf-8")
    return target


def _numbering(documents: Sequence[NDArray[np.int64]], target: Path) -> NDArray[np.int64] | None:
    """Tokens in use, ascending, if they have to be numbered anew; else None."""
    if min(int(d.min()) for d in documents) < 0:
        raise InputError(f"{target}: a token is negative; give token ids")
    if max(int(d.max()) for d in documents) < UNKNOWN:
        return None
    ids = np.unique(np.concatenate(documents))
    if len(ids) > UNKNOWN:
        raise InputError(
            f"{target}: the documents have {len(ids):,} different tokens, and an index of 16-bit tokens "
            f'holds {UNKNOWN:,}; index them elsewhere with token_dtype = "u32" and name the folder as '
            "`memorisation.index`"
        )
    return ids


def _write_tokens(
    path: Path, documents: Sequence[NDArray[np.int64]], ids: NDArray[np.int64] | None
) -> list[int]:
    separator, offsets, place = b"\xff\xff", [], 0
    with path.open("wb") as file:
        for document in [*documents, np.empty(0, np.int64)]:  # an empty one ends the corpus
            numbers = document if ids is None else np.searchsorted(ids, document)
            content = separator + numbers.astype("<u2").tobytes()
            offsets.append(place)
            place += file.write(content)
    return offsets


def _make_suffix_array(folder: Path) -> None:
    """Run the package's indexer over `tokenized.0`; it skips its own tokenisation where that is there."""
    gigabytes = max(1, int(psutil.virtual_memory().available / 2**31))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = min(4096, hard) if hard != resource.RLIM_INFINITY else max(soft, 4096)
    with _plain_name(folder) as place:
        command = [
            *(sys.executable, "-m", "infini_gram.indexing", "--version", "4"),
            *("--data_dir", place, "--save_dir", place, "--temp_dir", f"{place}/temporary"),
            *("--token_dtype", "u16", "--shards", "1", "--workers", "1", "--cpus", "1"),
            *("--mem", str(gigabytes), "--ulimit", str(files)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    table = folder / "table.0"
    wanted = folder / "tokenized.0"
    if (
        done.returncode
        or not table.is_file()
        or table.stat().st_size % (wanted.stat().st_size // 2)
    ):
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        told = said[-1].strip()[:200] if said else f"exit code {done.returncode}"
        raise InputError(f"{folder}: the ∞-gram indexer failed ({told})")
    shutil.rmtree(folder / "temporary", ignore_errors=True)


@contextmanager
def _plain_name(folder: Path) -> Iterator[str]:
    """A path to the folder that a shell reads as one word: the indexer quotes nothing."""
    with tempfile.TemporaryDirectory(prefix="phasescope-") as temporary:
        link = os.path.join(os.path.realpath(temporary), "index")
        if any(not (c.isalnum() or c in "/._-") for c in link):
            raise InputError(f"{link}: has characters the indexer cannot take; set TMPDIR")
        os.symlink(folder.resolve(), link, target_is_directory=True)
        yield link


def read_manifest(folder: Path) -> dict[str, object]:
    """What was said of an index made here; empty for one made elsewhere.

    Raises
    ------
    InputError
        If it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({line_of(error)}); remove {folder}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: is damaged; remove {folder}")
    return found
