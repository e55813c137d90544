"""Checkpoints and series: what everything else walks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runs.errors import InputError

_REVISION = re.compile(
    r"^(?:stage(?P<stage>\d+)-)?(?:ingredient(?P<ingredient>\d+)-)?step(?P<step>\d+)"
    r"(?:-tokens\d+B)?$"
)


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights.

    Attributes
    ----------
    path : Path
        Folder with `config.json` and the weights, or a GGUF file; of a hub's repository, the folder of
        its cache.
    step : int
        Optimiser steps taken.
    tokens : int
        Training tokens seen along this branch, those of its parents included.
    branch : str
        The unbroken line of training it belongs to.
    revision : str
        The name its publisher gave it.
    repository : str
        Where a hub has it; "" for a folder of files.
    verified : bool
        Whether somebody has seen that the revision is there: a hub, its cache, or this disk.
    commit : str
        What the revision stood for when the store was begun, or stands for now; "" if nobody has asked.
    """

    path: Path
    step: int
    tokens: int
    branch: str = "main"
    revision: str = ""
    repository: str = ""
    verified: bool = True
    commit: str = ""

    @property
    def label(self) -> str:
        """The name used in the store, on the command line and in messages."""
        return f"{self.branch}/step{self.step}"


@dataclass(frozen=True)
class Series:
    """Checkpoints sorted by branch and tokens, and the tokenizer they share.

    Attributes
    ----------
    name : str
    checkpoints : tuple of Checkpoint
    tokenizer : Path or None
        None for a hub's repository that is not in the cache yet.
    """

    name: str
    checkpoints: tuple[Checkpoint, ...]
    tokenizer: Path | None

    def __len__(self) -> int:
        return len(self.checkpoints)

    def select(
        self,
        *,
        steps: Iterable[int] | None = None,
        branches: Iterable[str] | None = None,
        step_range: tuple[int, int] | None = None,
        log_spaced: int | None = None,
    ) -> Series:
        """Keep some checkpoints.

        Parameters
        ----------
        steps
            These, in every branch that has them.
        branches
            These.
        step_range
            First and last step, both included.
        log_spaced
            So many of each branch, spread evenly over log tokens, the first and last among them; a
            checkpoint at 0 tokens is kept beside them.

        Raises
        ------
        InputError
            If a name selects nothing; the line lists what there is.
        """
        chosen = list(self.checkpoints)
        if branches is not None:
            known = sorted({c.branch for c in chosen})
            wanted_branches = list(branches)
            for branch in wanted_branches:
                if branch not in known:
                    raise InputError(
                        f"{self.name}: no branch `{branch}` in the series; it has {', '.join(known)}"
                    )
            chosen = [c for c in chosen if c.branch in wanted_branches]
        there = sorted({c.step for c in chosen})
        if steps is not None:
            wanted_steps = set(steps)
            missing = wanted_steps - set(there)
            if missing:
                raise InputError(
                    f"{self.name}: no checkpoint at step {min(missing)}; the series has {_some(there)}"
                )
            chosen = [c for c in chosen if c.step in wanted_steps]
        if step_range is not None:
            chosen = [c for c in chosen if step_range[0] <= c.step <= step_range[1]]
            if not chosen:
                raise InputError(
                    f"{self.name}: no checkpoint from step {step_range[0]} to {step_range[1]}; the "
                    f"series has {_some(there)}"
                )
        if log_spaced is not None:
            chosen = _spread(chosen, log_spaced)
        return Series(self.name, tuple(chosen), self.tokenizer)


def named(repository: str, revision: str) -> tuple[str, int] | None:
    """Branch and step that a published revision stands for; None if it is no checkpoint."""
    match = _REVISION.match(revision)
    if match is None:
        return None
    stage, ingredient, step = match["stage"], match["ingredient"], int(match["step"])
    branch = "main" if stage is None else f"stage{stage}"
    if ingredient is not None:
        branch += f"-ingredient{ingredient}"
    if repository.endswith("-early-training"):
        branch = "early-training"
    return branch, step


def in_order(found: Iterable[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Sorted by branch and tokens."""
    return tuple(sorted(found, key=lambda c: (c.branch, c.tokens, c.step)))


def _spread(checkpoints: Sequence[Checkpoint], count: int) -> list[Checkpoint]:
    chosen = []
    for branch in dict.fromkeys(c.branch for c in checkpoints):
        mine = [c for c in checkpoints if c.branch == branch]
        later = [c for c in mine if c.tokens > 0]
        chosen += [c for c in mine if c.tokens == 0]
        if len(later) <= count:
            chosen += later
            continue
        logs = np.log([c.tokens for c in later])
        marks = np.linspace(logs[0], logs[-1], count)
        chosen += [later[i] for i in sorted({int(np.abs(logs - m).argmin()) for m in marks})]
    return chosen


def _some(values: Sequence[int]) -> str:
    shown = ", ".join(str(v) for v in values[:8])
    return shown + (f" … {values[-1]}" if len(values) > 8 else "")
