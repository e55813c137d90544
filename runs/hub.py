"""A hub of models: what its cache holds, what it lists, fetching. All of huggingface_hub is here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs.checkpoints import Checkpoint
from runs.errors import CheckpointError, HubError, line_of
from runs.folders import cached_revision, cached_revisions, commit_of

_WEIGHTS = (".safetensors", ".bin")  # in the order in which they are preferred
_SMALL = ("*.json", "*.txt", "*.model", "tokenizer*")
_NO_NETWORK = (
    "cannot be reached ({line}); fetch on a machine with network (`phasescope fetch RECIPE`) and set "
    "series.cache to the folder it filled"
)


def cache_root(cache: Path | None) -> Path:
    """The cache's folder; by default where huggingface_hub keeps it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) if cache is None else cache


def repository_folder(repository: str, cache: Path | None) -> Path:
    """The folder of one repository in the cache; it need not exist."""
    return cache_root(cache) / f"models--{repository.replace('/', '--')}"


def cached(repository: str, cache: Path | None) -> dict[str, Path]:
    """Revisions in the cache and the folders of their files."""
    folder = repository_folder(repository, cache)
    return cached_revisions(folder) if (folder / "refs").is_dir() else {}


def located(checkpoint: Checkpoint) -> Path | None:
    """Where a checkpoint's files are; None if a hub's revision is not in the cache."""
    if not checkpoint.repository:
        return checkpoint.path
    if _complete(checkpoint.path):
        return checkpoint.path
    folder = repository_folder(checkpoint.repository, _cache_of(checkpoint))
    found = cached_revision(folder, checkpoint.revision)
    return found if found is not None and _complete(found) else None


def tokenizer_of(checkpoints: Sequence[Checkpoint]) -> Path | None:
    """The last checkpoint in the cache that has a tokenizer beside its weights."""
    for checkpoint in reversed(checkpoints):
        found = located(checkpoint)
        if found is not None and _has_tokenizer(found):
            return found
    return None


def revisions(repository: str, cache: Path | None) -> list[str]:
    """Branches and tags of a repository: the hub's own list, or the cache's if the hub is out of reach.

    Raises
    ------
    HubError
        If neither can be had.
    """
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(repository)
    except Exception as error:  # the library raises its client's errors, its own and OSError
        there = list(cached(repository, cache))
        if there:
            return there
        raise HubError(f"{repository}: {_NO_NETWORK.format(line=line_of(error))}") from None
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def published_hashes(repository: str, revision: str) -> dict[str, str]:
    """SHA-256 of every large file of a revision, as the hub tells it without a download.

    Raises
    ------
    HubError
        If the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        tree = list(HfApi().list_repo_tree(repository, revision=revision, recursive=True))
    except Exception as error:  # as above
        raise HubError(f"{repository}: {_NO_NETWORK.format(line=line_of(error))}") from None
    hashes = {}
    for entry in tree:
        lfs: Any = getattr(entry, "lfs", None)
        if lfs is not None:
            hashes[str(entry.path)] = str(lfs.sha256)
    return hashes


def fetch(checkpoint: Checkpoint, *, weights: bool = True) -> Path:
    """Bring a revision into the cache: safetensors where it has them, `.bin` where it has nothing else.

    Parameters
    ----------
    checkpoint
        Of a hub's repository.
    weights
        False brings configuration and tokenizer only.

    Returns
    -------
    Path
        The folder of its files.

    Raises
    ------
    CheckpointError
        If the hub has no such revision, or it holds no weights.
    HubError
        If the hub cannot be reached or the disk is full.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    place = (checkpoint.repository, checkpoint.revision)
    try:
        names = HfApi().list_repo_files(place[0], revision=place[1])
        kinds = [k for k in _WEIGHTS if any(n.endswith(k) for n in names)]
        if weights and not kinds:
            raise CheckpointError(f"{place[0]} at {place[1]}: the hub has no weights of it")
        wanted = [*_SMALL, *([f"*{kinds[0]}"] if weights else [])]
        folder = snapshot_download(
            place[0], revision=place[1], cache_dir=_cache_of(checkpoint), allow_patterns=wanted
        )
    except (RevisionNotFoundError, RepositoryNotFoundError, EntryNotFoundError) as error:
        raise CheckpointError(
            f"{place[0]} at {place[1]}: the hub has no such revision ({line_of(error)})"
        ) from None
    except CheckpointError:
        raise
    except Exception as error:  # as above; a full disk among them
        if isinstance(error, OSError) and error.errno is not None and error.errno == 28:
            raise
        raise HubError(f"{place[0]}: {_NO_NETWORK.format(line=line_of(error))}") from None
    return Path(folder)


def evict(checkpoint: Checkpoint) -> int:
    """Remove a revision from the cache; returns bytes freed.

    The library's own removal takes the whole repository with its last revision, and with it what is
    being fetched meanwhile. This takes the revision's links and the weights that are its alone; small
    files stay, because revisions share them and one that is on its way may be about to link them.
    """
    folder = located(checkpoint)
    if folder is None or not checkpoint.repository:
        return 0
    repository = folder.parents[1]
    others = [other for other in (repository / "snapshots").iterdir() if other != folder]
    alone = _weights(folder) - set[Path]().union(*map(_weights, others))
    freed = sum(file.stat().st_size for file in alone)
    for ref in (repository / "refs").rglob("*"):  # first, so that nobody finds half of it
        if ref.is_file() and commit_of(ref) == folder.name:
            ref.unlink()
    shutil.rmtree(folder)
    for file in alone:
        file.unlink(missing_ok=True)
    return freed


def _weights(snapshot: Path) -> set[Path]:
    """The weight files that a snapshot's links lead to."""
    return {f.resolve() for kind in _WEIGHTS for f in snapshot.glob(f"*{kind}")}


def cache_bytes(repository: str, cache: Path | None) -> int:
    """Bytes of one repository's files in the cache."""
    blobs = repository_folder(repository, cache) / "blobs"
    return sum(entry.stat().st_size for entry in os.scandir(blobs)) if blobs.is_dir() else 0


def _cache_of(checkpoint: Checkpoint) -> Path:
    path = checkpoint.path
    while not path.name.startswith("models--"):
        path = path.parent
    return path.parent


def _complete(folder: Path) -> bool:
    return folder.is_dir() and (folder / "config.json").is_file()


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / n).is_file() for n in ("tokenizer.json", "tokenizer_config.json"))
