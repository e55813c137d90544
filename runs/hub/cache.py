"""The cache of a hub on this disk, laid out as huggingface_hub lays it out: blobs, snapshots, refs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from runs.checkpoints import Checkpoint

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_COMMIT = re.compile(rb"[0-9A-Za-z]{1,64}")
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.")


def cache_root(cache: Path | None) -> Path:
    """The cache's folder; by default where huggingface_hub keeps it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) if cache is None else cache


def repository_folder(repository: str, cache: Path | None, *, kind: str = "model") -> Path:
    """The folder of one repository in the cache; it need not exist."""
    return cache_root(cache) / f"{kind}s--{repository.replace('/', '--')}"


def cached(repository: str, cache: Path | None) -> dict[str, Path]:
    """Revisions in the cache and the folders of their files."""
    folder = repository_folder(repository, cache)
    return cached_revisions(folder) if (folder / "refs").is_dir() else {}


def is_cache(root: Path) -> bool:
    """Whether a folder is a repository's folder in a hub's cache."""
    return (root / "refs").is_dir() and (root / "snapshots").is_dir()


def cached_revisions(root: Path) -> dict[str, Path]:
    """Revisions in a repository's cache folder and the folders of their files, without a network."""
    refs = sorted(p for p in (root / "refs").rglob("*") if p.is_file())
    names = [ref.relative_to(root / "refs").as_posix() for ref in refs]
    return {n: snapshot for n in names if (snapshot := cached_revision(root, n)) is not None}


def cached_revision(root: Path, revision: str) -> Path | None:
    """The folder of one revision's files in a repository's cache folder, None if it is not there."""
    ref = root / "refs" / revision
    commit = commit_of(ref) if ref.is_file() else ""
    snapshot = root / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def commit_of(ref: Path) -> str:
    """The commit that a reference of a cache holds; "" if it is damaged, as if it were not there."""
    content = ref.read_bytes().strip()
    return content.decode() if _COMMIT.fullmatch(content) else ""


def located(checkpoint: Checkpoint) -> Path | None:
    """Where a checkpoint's configuration is; None if a hub's revision is not in the cache."""
    if not checkpoint.repository:
        return checkpoint.path
    folder = folder_of(checkpoint)
    if checkpoint.commit:
        found: Path | None = folder / "snapshots" / checkpoint.commit
    else:
        found = cached_revision(folder, checkpoint.revision)
    return found if found is not None and (found / "config.json").is_file() else None


def here(checkpoint: Checkpoint) -> Path | None:
    """Where a checkpoint's files are on this disk, weights included; None if a hub has to give them."""
    found = located(checkpoint)
    if not checkpoint.repository or found is None:
        return found
    kinds = ([f for f in found.glob(kind) if f.exists()] for kind in _WEIGHTS)
    return found if any(_all_shards(files) for files in kinds) else None


def _all_shards(files: Sequence[Path]) -> bool:
    """Whether files are all of as many as their names say: a fetch may have been killed between two."""
    counts = [int(m[2]) for f in files if (m := _SHARD.search(f.name))]
    return len(files) >= max(counts, default=1)


def tokenizer_of(checkpoints: Sequence[Checkpoint]) -> Path | None:
    """The last checkpoint in the cache that has a tokenizer beside its weights."""
    for checkpoint in reversed(checkpoints):
        found = located(checkpoint)
        if found is not None and has_tokenizer(found):
            return found
    return None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any((folder / n).is_file() for n in ("tokenizer.json", "tokenizer_config.json"))


def folder_of(checkpoint: Checkpoint) -> Path:
    """The folder of a checkpoint's repository in the cache it belongs to."""
    path = checkpoint.path
    while not path.name.startswith("models--"):
        path = path.parent
    return path


def link(folder: Path, commit: str, name: str, digest: str) -> None:
    """Make a file of a commit lead to its blob."""
    pointer = folder / "snapshots" / commit / name
    pointer.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(folder / "blobs" / digest, pointer.parent)
    if pointer.is_symlink() and os.readlink(pointer) == target:
        return
    draft = pointer.with_name(f".{pointer.name}.{os.getpid()}.link")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(pointer)


def name_revision(folder: Path, revision: str, commit: str) -> None:
    """Say which commit a revision stands for, as the hub's own client does."""
    ref = folder / "refs" / revision
    if revision == commit or (ref.is_file() and ref.read_text() == commit):
        return
    ref.parent.mkdir(parents=True, exist_ok=True)
    draft = ref.with_name(f".{ref.name}.{os.getpid()}.ref")
    draft.write_text(commit)
    draft.replace(ref)


def discard(pointer: Path) -> None:
    """Remove a file of a snapshot that is damaged, and its blob if that is the cache's own."""
    blob = _blob(pointer)
    pointer.unlink(missing_ok=True)
    if blob.parent == pointer.parents[2] / "blobs" and not blob.is_symlink():
        blob.unlink(missing_ok=True)


def drop_weights(snapshot: Path, spared: Iterable[str] = (), fetched: Iterable[str] = ()) -> int:
    """Remove the weights of one snapshot that are its alone; returns bytes freed.

    Its small files stay: a series goes on from them. What lies elsewhere than in the repository's own
    `blobs` is somebody else's and stays, and so do the links to it.

    Parameters
    ----------
    snapshot
        Folder of a commit's files in a cache; it need not exist.
    spared
        Digests of blobs that somebody else is about to use.
    fetched
        Digests of further blobs of the snapshot, to which no link may lead any more.
    """
    blobs = snapshot.parents[1] / "blobs"
    links = [f for kind in _WEIGHTS for f in snapshot.glob(kind) if f.is_symlink()]
    everywhere = snapshot.parent.iterdir() if snapshot.parent.is_dir() else ()
    others = [s for s in everywhere if s != snapshot and s.is_dir()]
    shared = {_blob(f) for s in others for kind in _WEIGHTS for f in s.glob(kind)}
    shared |= {blobs / digest for digest in spared}
    gone = {blobs / digest for digest in fetched}
    for pointer in links:
        blob = _blob(pointer)
        if blob.parent == blobs and not blob.is_symlink():
            gone.add(blob)
            pointer.unlink(missing_ok=True)
    freed = 0
    for blob in gone - shared:
        if blob.is_file() and not blob.is_symlink():
            freed += blob.stat().st_size
            blob.unlink(missing_ok=True)
    return freed


def _blob(pointer: Path) -> Path:
    """What a link leads to, one step: links further on are somebody else's."""
    if not pointer.is_symlink():
        return pointer
    return Path(os.path.normpath(pointer.parent / os.readlink(pointer)))
