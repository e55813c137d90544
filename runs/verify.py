"""Verification of a series: every checkpoint's files against its label and all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runs import hub
from runs.checkpoints import Checkpoint, Series
from runs.errors import CheckpointError, HubError
from runs.fetching import here
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
) -> list[Verdict]:
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

    Returns
    -------
    list of Verdict
        In the order of the series.
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
            reasons[checkpoint.label] = _kind(str(error))
        advance(checkpoint.label)
    large = {label: print_.large for label, print_ in prints.items()}
    reasons |= judge_series(series.checkpoints, large, accept=accept)
    sources = {c.label: "not on this disk" for c in remote}
    hashes = _hashes(remote, advance)
    if hashes:
        reasons |= judge_series(series.checkpoints, hashes, accept=accept)
        sources |= dict.fromkeys(hashes, "the hub's hashes of its files")
    return [
        Verdict(
            c,
            reasons.get(c.label, ""),
            len(prints[c.label].tensors) if c.label in prints else 0,
            sources.get(c.label, "tensors"),
        )
        for c in series.checkpoints
    ]


def _hashes(
    remote: Sequence[Checkpoint], advance: Callable[[str], None]
) -> dict[str, frozenset[str]]:
    """SHA-256 of the weight files of revisions that are not here, as far as a hub tells them."""
    found: dict[str, frozenset[str]] = {}
    for checkpoint in remote:
        try:
            files = hub.published_hashes(checkpoint.repository, checkpoint.revision)
        except HubError:
            return found  # out of reach: the rest will be, too
        weights = {h for name, h in files.items() if name.endswith((".safetensors", ".bin"))}
        found[checkpoint.label] = frozenset(weights)
        advance(checkpoint.label)
    return found


def _kind(reason: str) -> str:
    """Lead with the word by which people look for a fault."""
    for sign, kind in (
        ("NaN or Inf", "not finite"),
        ("truncated", "truncated"),
        ("is missing", "missing shard"),
        ("no weights", "no weights"),
    ):
        if sign in reason:
            return f"{kind}: {reason}"
    return f"unreadable: {reason}"
