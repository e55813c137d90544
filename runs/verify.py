"""Verification of a series: every checkpoint's files against its label and all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runs.checkpoints import Checkpoint, Series
from runs.errors import BytesError, CheckpointError, GoneError, HubError
from runs.hub.cache import here
from runs.hub.client import Notice, is_offline
from runs.hub.listing import commit_at, files_at, needed
from runs.integrity import Fingerprint, fingerprint, judge_series


@dataclass(frozen=True)
class Verdict:
    """What is found of one checkpoint; `reason` is "" if it is what its label says."""

    checkpoint: Checkpoint
    reason: str
    tensors: int = 0
    source: str = "tensors"

    @property
    def good(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reason


def verify_series(
    series: Series,
    *,
    accept: Sequence[str] = (),
    advance: Callable[[str], None] = lambda _: None,
    notice: Notice = lambda _: None,
) -> tuple[list[Verdict], HubError | None]:
    """Digest every checkpoint that is on this disk, and compare all with all.

    Of those that are not, the hub's own hashes of their files are compared with each other if a hub
    answers: whole duplicates are found without a download.

    Parameters
    ----------
    series
        The series.
    accept
        Labels that are taken as they are.
    advance
        Called with the label of each checkpoint that is done.
    notice
        Told of waits for a hub.

    Returns
    -------
    list of Verdict
        In the order of the series.
    HubError or None
        Why a hub could not be asked about those that are not here; None if it was, or need not be, or
        `HF_HUB_OFFLINE` forbids it.
    """
    prints: dict[str, Fingerprint] = {}
    reasons: dict[str, str] = {}
    remote: list[Checkpoint] = []
    for checkpoint in series.checkpoints:
        path = here(checkpoint)
        if path is None:
            remote.append(checkpoint)
            continue
        try:
            prints[checkpoint.label] = fingerprint(path)
        except CheckpointError as error:
            reasons[checkpoint.label] = _kind(error)
        advance(checkpoint.label)
    large = {label: print_.large for label, print_ in prints.items()}
    reasons |= judge_series(series.checkpoints, large, accept=accept)
    sources = {c.label: "not on this disk" for c in remote}
    hashes, gone, unreachable = _hashes(remote, advance, notice)
    reasons |= gone
    sources |= dict.fromkeys(gone, "the hub's list")
    if hashes:
        reasons |= judge_series(series.checkpoints, hashes, accept=accept)
        sources |= dict.fromkeys(hashes, "the hub's hashes of its files")
    verdicts = [
        Verdict(
            c,
            reasons.get(c.label, ""),
            len(prints[c.label].tensors) if c.label in prints else 0,
            sources.get(c.label, "tensors"),
        )
        for c in series.checkpoints
    ]
    return verdicts, unreachable


def _hashes(
    remote: Sequence[Checkpoint], advance: Callable[[str], None], notice: Notice
) -> tuple[dict[str, frozenset[str]], dict[str, str], HubError | None]:
    """SHA-256 of the weight files of revisions that are not here, and those that a hub does not have."""
    found: dict[str, frozenset[str]] = {}
    gone: dict[str, str] = {}
    for checkpoint in remote if not is_offline() else ():
        repository = checkpoint.repository
        try:
            commit = checkpoint.commit or commit_at(repository, checkpoint.revision, notice=notice)
            files = needed(files_at(repository, commit, notice=notice))
        except GoneError as error:
            gone[checkpoint.label] = f"not on the hub: {error}"
        except HubError as error:
            return found, gone, error  # the rest cannot be asked, either
        else:
            found[checkpoint.label] = frozenset(f.digest for f in files if f.is_weights)
        advance(checkpoint.label)
    return found, gone, None


def _kind(error: CheckpointError) -> str:
    """Lead with the word by which people look for a fault."""
    reason = str(error)
    if isinstance(error, BytesError):
        return f"not the hub's bytes: {reason}"
    for sign, kind in (
        ("NaN or Inf", "not finite"),
        ("truncated", "truncated"),
        ("is missing", "missing shard"),
        ("no weights", "no weights"),
    ):
        if sign in reason:
            return f"{kind}: {reason}"
    return f"unreadable: {reason}"
