"""What a published series needs to begin: its revisions' commits, one configuration, one tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from runs.checkpoints import Checkpoint, Series, named
from runs.errors import CheckpointError, HubError, InputError
from runs.hub.cache import cache_root, folder_of, has_tokenizer, located, name_revision
from runs.hub.client import Notice, is_offline
from runs.hub.download import download, is_whole
from runs.hub.listing import HubFile, commit_at, files_at, needed, revisions_of
from runs.remembered import Remembered

_TRIED = 3  # revisions that are asked for configuration and tokenizer, the last one first


@dataclass
class Pinned:
    """A published series whose revisions are commits, as far as anybody knows.

    Attributes
    ----------
    series : Series
    moved : tuple of str
        A line for every branch that has moved since the store was begun.
    unreachable : HubError or None
        Why the hub could not be asked.
    asked : list of str
        What the hub was asked for, in words.
    checkpoint_bytes : int
        Of one checkpoint's weights, as the hub lists them; 0 if it was not asked.
    """

    series: Series
    moved: tuple[str, ...] = ()
    unreachable: HubError | None = None
    asked: list[str] = field(default_factory=list)
    checkpoint_bytes: int = 0
    _listed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def pin(
    series: Series,
    known: Remembered,
    *,
    ask: bool = True,
    notice: Notice = lambda _: None,
) -> Pinned:
    """Give every revision its commit.

    A commit that the store remembers is kept, whatever its branch stands for now. A hub that cannot be
    asked stops nothing that is on this disk.

    Parameters
    ----------
    series
        Selected; of files on this disk it is returned as it is.
    known
        What the store remembers.
    ask
        False takes what is on this disk.
    notice
        Told of waits.
    """
    repositories = list(dict.fromkeys(c.repository for c in series.checkpoints if c.repository))
    found = Pinned(series)
    listed: dict[str, dict[str, str]] = {}
    for repository in repositories if ask and not is_offline() else ():
        try:
            listed[repository] = revisions_of(repository, notice=notice)
            found.asked.append(f"the revisions of {repository}")
        except HubError as error:
            found.unreachable = error
            break
    pinned = [
        _pinned(c, listed.get(c.repository), known) if c.repository else c
        for c in series.checkpoints
    ]
    found.moved = tuple(
        f"{c.label}: {c.revision} of {c.repository} has moved since this store was begun "
        f"({c.commit[:12]} → {now[:12]}); the store goes on with {c.commit[:12]}"
        for c in pinned
        if c.commit and (now := listed.get(c.repository, {}).get(c.revision, c.commit)) != c.commit
    )
    found.series = replace(series, checkpoints=tuple(pinned))
    found._listed = listed
    return found


def start(
    pinned: Pinned,
    *,
    cache: Path | None = None,
    tokenizer: bool = True,
    ask: bool = True,
    notice: Notice = lambda _: None,
) -> Series:
    """Bring configuration and tokenizer to this disk, if they are not here.

    Parameters
    ----------
    pinned
        From `pin`; what is asked of the hub is added to it.
    cache
        The hub's cache.
    tokenizer
        Whether the tokenizer is wanted, too.
    ask
        False takes what is on this disk.
    notice
        Told of waits.

    Returns
    -------
    Series
        With the tokenizer's folder.

    Raises
    ------
    InputError
        If they are nowhere to be had; a `HubError` if that is the hub's fault.
    """
    series = pinned.series
    if not series.checkpoints[0].repository:
        return series
    own = series.tokenizer  # of a checkpoint that may not be selected
    if tokenizer and own is not None and _undamaged(own) and _here(series, False) is not None:
        return series
    found = _here(series, tokenizer)
    if found is None and ask:
        if pinned.unreachable is not None:
            raise pinned.unreachable
        found = _fetched(pinned, tokenizer, cache_root(cache) / ".phasescope", notice)
    return series if found is None or not tokenizer else replace(series, tokenizer=found)


def _pinned(
    checkpoint: Checkpoint, listed: Mapping[str, str] | None, known: Remembered
) -> Checkpoint:
    """A checkpoint with the revision that a hub lists for its place, and its commit."""
    revision = known.revisions.get(checkpoint.label) or checkpoint.revision
    if listed is not None and revision not in listed:
        place = named(checkpoint.repository, revision)
        same = (r for r in listed if place and named(checkpoint.repository, r) == place)
        revision = next(same, revision)
    there = listed is not None and revision in listed
    cached = located(checkpoint)
    commit = known.commits.get(checkpoint.label) or (listed or {}).get(revision, "")
    if not commit and cached is not None and listed is None:
        commit = cached.name
    return replace(
        checkpoint,
        revision=revision,
        commit=commit,
        verified=there or (listed is None and checkpoint.verified),
    )


def _here(series: Series, tokenizer: bool) -> Path | None:
    """The folder of a checkpoint in the cache that has what is needed to begin."""
    for checkpoint in reversed(series.checkpoints):
        found = located(checkpoint)
        if found is None or (tokenizer and not has_tokenizer(found)):
            continue
        if _undamaged(found):
            return found
    return None


def _undamaged(folder: Path) -> bool:
    """Whether the small files of a snapshot are the hub's; others are fetched again."""
    small = (f for f in folder.iterdir() if f.suffix in (".json", ".txt", ".model"))
    return all(is_whole(file) for file in small if file.is_symlink())


def _fetched(pinned: Pinned, tokenizer: bool, place: Path, notice: Notice) -> Path:
    """Small files of the last checkpoint that has them, else of the repository's main branch."""
    series = pinned.series
    last = series.checkpoints[-1]
    main = pinned._listed.get(last.repository, {}).get("main")
    candidates = list(reversed(series.checkpoints))[:_TRIED]
    if main:
        candidates.append(replace(last, revision="main", commit=main))
    reason: CheckpointError | None = None
    for checkpoint in candidates:
        try:
            files, found = _small(checkpoint, place, notice)
        except CheckpointError as error:
            reason = reason or error
            continue
        small = needed(files, weights=False)
        pinned.asked.append(
            f"{len(small)} small files of {checkpoint.repository} at {checkpoint.revision} "
            f"({sum(f.size for f in small) / 1000:,.0f} kB)"
        )
        if (found / "config.json").is_file() and (not tokenizer or has_tokenizer(found)):
            pinned.checkpoint_bytes = sum(f.size for f in needed(files) if f.is_weights)
            return found
    if reason is not None:
        raise InputError(str(reason))
    what = "configuration and tokenizer" if tokenizer else "configuration"
    raise InputError(
        f"{last.repository}: no revision of it has {what} (tried "
        f"{', '.join(c.revision for c in candidates)})"
        + ("; set `series.tokenizer` to a tokenizer's folder" if tokenizer else "")
    )


def _small(checkpoint: Checkpoint, place: Path, notice: Notice) -> tuple[tuple[HubFile, ...], Path]:
    commit = checkpoint.commit or commit_at(
        checkpoint.repository, checkpoint.revision, notice=notice
    )
    files = files_at(checkpoint.repository, commit, notice=notice)
    folder = folder_of(checkpoint)
    try:
        for file in needed(files, weights=False):
            download(file, checkpoint.repository, commit, folder, place, notice=notice)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); free space, or set series.cache to a "
            "folder of yours"
        ) from None
    name_revision(folder, checkpoint.revision, commit)
    return files, folder / "snapshots" / commit
