"""Published series: labels made offline from published steps, seen where a hub or a cache has them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runs.checkpoints import Checkpoint, Series, in_order, named
from runs.errors import HubError, InputError
from runs.hub import cache as on_disk
from runs.hub.client import Notice
from runs.hub.listing import revisions_of
from runs.published import (
    PYTHIA_RATE,
    PYTHIA_STEPS,
    OlmoStep,
    olmo_steps,
    pythia_sizes,
    tokens_per_step,
)

_POLY = ("14m", "31m", "70m", "160m", "410m")
OLMO_1 = {
    "1b": "allenai/OLMo-1B-hf",
    "7b": "allenai/OLMo-7B-hf",
    "7b-0724": "allenai/OLMo-7B-0724-hf",
}
OLMO_2 = {
    "1b": "allenai/OLMo-2-0425-1B",
    "7b": "allenai/OLMo-2-1124-7B",
    "13b": "allenai/OLMo-2-1124-13B",
    "32b": "allenai/OLMo-2-0325-32B",
}
OLMO_3 = {"7b": "allenai/Olmo-3-1025-7B", "32b": "allenai/Olmo-3-1125-32B"}
_EARLY_STEPS = range(1000, 11_000, 1000)


@dataclass(frozen=True)
class Known:
    """Revisions that are known without a hub, and whether it is asked all the same.

    Attributes
    ----------
    revisions : tuple of str
        Such as a store remembers.
    ask : bool
        False takes these, or what a cache has.
    notice
        Told of waits for the hub.
    """

    revisions: tuple[str, ...] = ()
    ask: bool = True
    notice: Notice = lambda _: None


NOTHING = Known()


def pythia(
    size: str,
    *,
    deduped: bool = False,
    seed: int | None = None,
    data_seed: int | None = None,
    weight_seed: int | None = None,
    cache: Path | None = None,
) -> Series:
    """Pythia or PolyPythias: 154 steps, 0, 1, 2, 4, …, 512, 1000, 2000, …, 143000.

    Parameters
    ----------
    size
        `14m` … `12b`.
    deduped
        Trained on the deduplicated Pile (70m and larger).
    seed
        1 … 9: PolyPythias, 14m to 410m; the unsuffixed repository is seed 1234.
    data_seed, weight_seed
        1 or 2: the decoupled runs of 160m.
    cache
        The hub's cache; by default where huggingface_hub keeps it.

    Raises
    ------
    InputError
        If there is no such run.
    """
    if size not in pythia_sizes():
        raise InputError(f"series.size: no Pythia of {size}; there are {', '.join(pythia_sizes())}")
    name = f"EleutherAI/pythia-{size}"
    kinds = {"seed": seed, "data-seed": data_seed, "weight-seed": weight_seed}
    given = {kind: number for kind, number in kinds.items() if number is not None}
    if len(given) + deduped > 1:
        raise InputError("series: give one of deduped, seed, data_seed and weight_seed")
    if deduped and size in ("14m", "31m"):
        raise InputError(f"series.deduped: there is no deduplicated Pythia of {size}")
    for kind, number in given.items():
        sizes, last = (_POLY, 9) if kind == "seed" else (("160m",), 2)
        if size not in sizes or not 1 <= number <= last:
            raise InputError(
                f"series.{kind.replace('-', '_')}: published are 1 to {last} of {', '.join(sizes)}"
            )
        name += f"-{kind}{number}"
    name += "-deduped" * deduped
    labels = ((f"step{step}", "main", step, step * PYTHIA_RATE) for step in PYTHIA_STEPS)
    return _series(name, labels, cache)


def olmo(size: str, *, cache: Path | None = None, known: Known = NOTHING) -> Series:
    """OLMo, first generation: `1b`, `7b`, `7b-0724`.

    Steps of `7b-0724` were published as a table; the others' are those that a hub or its cache lists.
    """
    return _olmo("OLMo", OLMO_1, size, cache, known)


def olmo2(
    size: str, *, early: bool = True, cache: Path | None = None, known: Known = NOTHING
) -> Series:
    """OLMo-2 `1b`, `7b`, `13b`, `32b`: stage 1, and the ingredients of stage 2 as branches.

    Tokens of stage 2 count on from the end of stage 1.

    Parameters
    ----------
    size
        See above; the 32b's steps are those that a hub or its cache lists.
    early
        With `1b`: the early-training repository as its own branch; it is not the same run.
    cache
        The hub's cache.
    known
        As `hub`.
    """
    series = _olmo("OLMo-2", OLMO_2, size, cache, known)
    if size != "1b" or not early:
        return series
    name = OLMO_2["1b"] + "-early-training"
    rate = tokens_per_step(name) or 0
    labels = (
        (f"step{s}-tokens{math.ceil(s * rate / 1e9)}B", "early-training", s, s * rate)
        for s in _EARLY_STEPS
    )
    more = _series(name, labels, cache)
    return Series(series.name, in_order([*series.checkpoints, *more.checkpoints]), series.tokenizer)


def olmo3(size: str, *, cache: Path | None = None, known: Known = NOTHING) -> Series:
    """Olmo-3 `7b`, `32b`; steps are those that a hub or its cache lists (no table was published)."""
    return _olmo("Olmo-3", OLMO_3, size, cache, known)


def hub(
    repository: str,
    *,
    pattern: str | None = None,
    rate: int | None = None,
    cache: Path | None = None,
    known: Known = NOTHING,
) -> Series:
    """Any repository whose revisions name steps.

    Parameters
    ----------
    repository
        `OWNER/NAME`.
    pattern
        Regular expression that a revision must match; its group `step`, if it has one, is the step.
    rate
        Tokens a step, where they are not known.
    cache
        The hub's cache.
    known
        What is known from elsewhere, such as a store, should the hub be out of reach.

    Raises
    ------
    InputError
        If neither a hub nor the cache lists a matching revision, or the rate is unknown.
    """
    listed = list(dict.fromkeys((*known.revisions, *on_disk.cached(repository, cache))))
    if known.ask or not listed:
        try:
            listed = list(revisions_of(repository, notice=known.notice))
        except HubError:
            if not listed:
                raise
    per_step = rate or tokens_per_step(repository)
    if per_step is None:
        raise InputError(f"{repository}: tokens a step are unknown; set `series.tokens_per_step`")
    labels = []
    for revision in listed:
        place = _matched(repository, revision, pattern)
        if place is not None:
            labels.append((revision, place[0], place[1], place[1] * per_step))
    if not labels:
        raise InputError(
            f"{repository}: no revision names a step{f' and matches {pattern}' if pattern else ''}; "
            f"listed are {', '.join(listed[:5]) or 'none'}"
        )
    return _series(repository, labels, cache)


def stages(repositories: Mapping[str, str], *, cache: Path | None = None) -> Series:
    """Repositories that continue one another, a branch each: a base model, its SFT, its DPO.

    Steps and tokens are the place in the order, from 1: publishers do not say how many there were.

    Parameters
    ----------
    repositories
        Branch to `OWNER/NAME` or `OWNER/NAME@REVISION`, in order of training; revision `main` if none.
    cache
        The hub's cache.
    """
    found = []
    for place, (branch, named_so) in enumerate(repositories.items(), start=1):
        repository, _, revision = named_so.partition("@")
        revision = revision or "main"
        there = on_disk.cached(repository, cache).get(revision)
        path = there or on_disk.repository_folder(repository, cache)
        found.append(
            Checkpoint(path, place, place, branch, revision, repository, there is not None)
        )
    last = max(found, key=lambda checkpoint: checkpoint.tokens)
    return Series(last.repository, in_order(found), on_disk.tokenizer_of(found))


def _matched(repository: str, revision: str, pattern: str | None) -> tuple[str, int] | None:
    if pattern is None:
        return named(repository, revision)
    try:
        match = re.search(pattern, revision)
    except re.error as error:
        raise InputError(f"series.pattern: is not a regular expression ({error})") from None
    if match is None:
        return None
    if "step" in match.re.groupindex:
        found = match["step"] or ""
        if not (found.isascii() and found.isdigit()):
            raise InputError(
                f"series.pattern: its group `step` matches {found!r}, which is no number"
            )
        return "main", int(found)
    return named(repository, revision)


def _olmo(
    family: str, sizes: dict[str, str], size: str, cache: Path | None, known: Known
) -> Series:
    if size not in sizes:
        raise InputError(f"series.size: no {family} of {size}; there are {', '.join(sizes)}")
    name = sizes[size]
    steps = olmo_steps(name)
    if not steps:
        return hub(name, cache=cache, known=known)
    return _series(name, _olmo_labels(name, steps), cache)


def _olmo_labels(name: str, steps: Iterable[OlmoStep]) -> list[tuple[str, str, int, int]]:
    rate = tokens_per_step(name) or 0
    rows = list(steps)
    last = max(row.step for row in rows if row.stage == 1) * rate
    staged = any(row.stage == 2 for row in rows)
    labels = []
    for row in rows:
        each = row.tokens_per_step or rate
        seen = row.step * each
        if row.stage == 1:
            label = f"step{row.step}-tokens{math.ceil(seen / 1e9)}B"
            branch = "stage1" if staged else "main"
            labels.append((f"stage1-{label}" if staged else label, branch, row.step, seen))
        else:
            branch = f"stage2-ingredient{row.ingredient}"
            label = f"{branch}-step{row.step}-tokens{round(seen / 1e9)}B"
            labels.append((label, branch, row.step, last + seen))
    return labels


def _series(name: str, labels: Iterable[tuple[str, str, int, int]], cache: Path | None) -> Series:
    """Checkpoints of published labels; those that the cache has are seen, whatever their suffix."""
    cached = on_disk.cached(name, cache)
    by_place = {named(name, revision): revision for revision in cached}
    folder = on_disk.repository_folder(name, cache)
    found = []
    for label, branch, step, tokens in labels:
        there = label if label in cached else by_place.get((branch, step))
        path = cached[there] if there is not None else folder
        found.append(
            Checkpoint(path, step, tokens, branch, there or label, name, there is not None)
        )
    ordered = in_order(found)
    return Series(name, ordered, on_disk.tokenizer_of(ordered))
