"""One file of a hub into its cache, compared with the hub's own digest on its way.

huggingface_hub's session, addresses, tokens and errors are used; its own download function is not,
because it starts anew after a kill, waits as long as it is told to, and does not look at what it got.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import partial as partial_call
from pathlib import Path
from typing import Any

from runs.errors import BytesError
from runs.hub.cache import link
from runs.hub.client import Broken, Notice, Stopped, ask, renewed, session
from runs.hub.listing import HubFile, RepositoryKind
from runs.leases import Lease

PARTIAL = ".phasescope.incomplete"
_PIECE = 1 << 20
_SHA256 = 64  # digits

Advance = Callable[[int], None]
_compared: set[tuple[str, int, int]] = (
    set()
)  # blobs that this process has digested: path, size, time


def digester(digest: str, size: int) -> Any:
    """A hash of the kind that a digest is of: SHA-256, or git's of a file of a size."""
    if len(digest) == _SHA256:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size)


def check_file(path: Path) -> None:
    """Compare a file of a hub's cache with the digest that its blob is named by.

    Raises
    ------
    BytesError
        If it is not those bytes; with both digests.
    """
    blob = path.resolve()
    digest = blob.name
    if len(digest) not in (40, _SHA256) or not all(c in "0123456789abcdef" for c in digest):
        return  # no hub's cache, or a hub that names files otherwise
    if _stamp(blob) in _compared:
        return
    state = digester(digest, blob.stat().st_size)
    plain = hashlib.sha1() if len(digest) != _SHA256 else state  # as some mirrors name small files
    with blob.open("rb") as content:
        while piece := content.read(_PIECE):
            for each in {id(state): state, id(plain): plain}.values():
                each.update(piece)
    if digest not in (state.hexdigest(), plain.hexdigest()):
        raise BytesError(_mismatch(str(path), state.hexdigest(), digest), path)
    _compared.add(_stamp(blob))


def _stamp(blob: Path) -> tuple[str, int, int]:
    found = blob.stat()
    return str(blob), found.st_size, found.st_mtime_ns


def download(
    file: HubFile,
    repository: str,
    commit: str,
    folder: Path,
    leases: Path,
    *,
    kind: RepositoryKind = "model",
    notice: Notice = lambda _: None,
    advance: Advance = lambda _: None,
    stop: threading.Event | None = None,
) -> Path:
    """Bring a file into a repository's folder of the cache, unless its bytes are there.

    What a killed download left is gone on from. One process downloads a blob at a time; others wait.

    Parameters
    ----------
    file
        As the hub lists it.
    repository, commit, kind
        Whose it is.
    folder
        The repository's, in the cache.
    leases
        Where leases of the cache lie.
    notice
        Told of waits.
    advance
        Told of bytes, also of those found there.
    stop
        Ends the download between two pieces.

    Returns
    -------
    Path
        The link in the snapshot.

    Raises
    ------
    BytesError
        If what comes is twice not what the hub's digest says.
    GoneError, HubError
        As `ask`.
    OSError
        If the disk is full or cannot be written; what was half finished is removed from a full one.
    """
    blob = folder / "blobs" / file.digest
    pointer = folder / "snapshots" / commit / file.path
    if not is_whole(blob):
        blob.parent.mkdir(parents=True, exist_ok=True)
        with Lease(leases, f"blob {file.digest}").wait(poll=0.2):
            if not is_whole(blob):
                blob.unlink(missing_ok=True)
                _bring(file, repository, commit, blob, kind, notice, advance, stop)
                link(folder, commit, file.path, file.digest)
                return pointer
    advance(file.size)
    link(folder, commit, file.path, file.digest)
    return pointer


def is_whole(blob: Path) -> bool:
    """Whether a file of the cache is there and still is what its blob is named by."""
    try:
        check_file(blob)
    except (FileNotFoundError, BytesError):
        return False
    return blob.exists()


def _bring(
    file: HubFile,
    repository: str,
    commit: str,
    blob: Path,
    kind: RepositoryKind,
    notice: Notice,
    advance: Advance,
    stop: threading.Event | None,
) -> None:
    from huggingface_hub import hf_hub_url

    about = f"{repository} at {commit[:12]}: {file.path}"
    url = hf_hub_url(repository, file.path, revision=commit, repo_type=kind)
    partial = blob.with_name(blob.name + PARTIAL)
    most = [0]  # bytes that were ever there: only more of them make a wait worth starting anew
    for last in (False, True):
        try:
            stream = partial_call(_stream, url, file, partial, most, advance, stop)
            found = ask(about, stream, notice=notice, stop=stop)
        except OSError:  # a full disk: half a file only makes it fuller
            partial.unlink(missing_ok=True)
            raise
        if found == file.digest:
            partial.replace(blob)
            _compared.add(_stamp(blob))
            return
        partial.unlink(missing_ok=True)
        if last:
            raise BytesError(_mismatch(about, found, file.digest), blob)
        advance(-file.size)
        notice(f"{about}: what came is not the hub's bytes; fetching it once more")


def _stream(
    url: str,
    file: HubFile,
    partial: Path,
    most: list[int],
    advance: Advance,
    stop: threading.Event | None,
) -> str:
    """Append to a half-finished file until it is whole; the digest of all its bytes."""
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    state, there = digester(file.digest, file.size), 0
    with partial.open("ab+") as target:
        target.seek(0)
        while piece := target.read(_PIECE):
            state.update(piece)
            there += len(piece)
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        if 0 < there < file.size:
            headers["Range"] = f"bytes={there}-"
        if there > file.size:
            there = _restart(target)
            state = digester(file.digest, file.size)
        if there < file.size or file.size == 0:
            client = session()
            with client.stream("GET", url, headers=headers, follow_redirects=True) as response:
                hf_raise_for_status(response)
                if there and response.status_code != 206:
                    there = _restart(target)  # the server gives the whole file again
                    state = digester(file.digest, file.size)
                most[0] = max(most[0], there)
                advance(there)
                try:
                    there = _append(response, target, state, there, file.size, advance, stop)
                except BaseException:
                    target.flush()
                    if target.tell() > most[0]:
                        most[0] = target.tell()
                        renewed()
                    advance(-target.tell())  # counted again when it goes on
                    raise
        else:
            advance(there)
    if there < file.size:
        advance(-there)
        raise Broken(f"{there:,} of {file.size:,} bytes came")
    return str(state.hexdigest())


def _append(
    response: Any,
    target: Any,
    state: Any,
    there: int,
    size: int,
    advance: Advance,
    stop: threading.Event | None,
) -> int:
    # As the pieces come: of larger ones that are put together here, a cut would lose the part that came.
    for piece in response.iter_bytes():
        if stop is not None and stop.is_set():
            raise Stopped("the download was stopped")
        state.update(piece)
        target.write(piece)
        target.flush()
        there += len(piece)
        advance(len(piece))
        if there > size:
            break  # not the file that was listed: its digest will not fit
    return there


def _restart(target: Any) -> int:
    target.seek(0)
    target.truncate()
    return 0


def _mismatch(what: str, found: str, wanted: str) -> str:
    kind = "SHA-256" if len(wanted) == _SHA256 else "git hash"
    return f"{what} is not what the hub publishes: its {kind} is {found}, the hub says {wanted}"
