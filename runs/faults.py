"""Published series that are known to be broken in places, each with where it was reported.

As of August 2026; whether a fault has been mended since is for `phasescope verify` to see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runs.checkpoints import Checkpoint


@dataclass(frozen=True)
class Fault:
    """One known fault.

    Attributes
    ----------
    repository : str
        Regular expression that a whole repository's name matches.
    steps : function
        Whether a step is among those known to be touched.
    what, source : str
        In words; the issue or discussion that reports it.
    """

    repository: str
    steps: Callable[[int], bool]
    what: str
    source: str


def _only(*steps: int) -> Callable[[int], bool]:
    return frozenset(steps).__contains__


_FINAL_IN_2_8B = (*range(513), *range(1000, 54_000, 1000), 55_000, 60_000, 140_000)
_SECOND_BLOB_IN_2_8B = (54_000, *range(56_000, 60_000, 1000), *range(61_000, 65_000, 1000), 143_000)

FAULTS: tuple[Fault, ...] = (
    Fault(
        r"EleutherAI/pythia-.*",
        _only(0, 1),
        "step 0 and step 1 hold the same weights; the first is kept",
        "EleutherAI/pythia #83, #198",
    ),
    Fault(
        r"EleutherAI/pythia-2\.8b",
        _only(*_FINAL_IN_2_8B),
        "76 of 154 branches hold the final weights: 0–512, 1000–53000, 55000, 60000, … 140000",
        "EleutherAI/pythia #205, #195",
    ),
    Fault(
        r"EleutherAI/pythia-2\.8b",
        _only(*_SECOND_BLOB_IN_2_8B),
        "10 branches share a second set of weights: 54000, 56000–59000, 61000–64000, 143000",
        "EleutherAI/pythia #205",
    ),
    Fault(
        r"EleutherAI/pythia-12b",
        _only(50_000, 58_000),
        "the first shard is the final model's",
        "EleutherAI/pythia #206",
    ),
    Fault(
        r"EleutherAI/pythia-12b(-deduped)?",
        _only(4000, 32_000),
        "was wrong or missing, then uploaded again",
        "EleutherAI/pythia #107, #108, #141",
    ),
    Fault(
        r"EleutherAI/pythia-6\.9b",
        _only(26_000),
        "was once missing",
        "EleutherAI/pythia #94",
    ),
    *(
        Fault(
            rf"EleutherAI/pythia-410m-seed{seed}",
            _only(at),
            "has no weights",
            "EleutherAI/pythia #202",
        )
        for seed, at in ((9, 40_000), (6, 88_000), (2, 111_000))
    ),
    Fault(
        r"EleutherAI/pythia-160m-weight-seed[12]",
        lambda step: step >= 1,
        "steps from 1 on do not descend from their own step 0",
        "EleutherAI/pythia #203",
    ),
    Fault(
        r"allenai/OLMo-2-1124-7B",
        _only(101_000, 175_000, 300_000),
        "stage 1 steps 101000, 175000 and 300000 are identical (about 25 branches were checked)",
        "allenai/OLMo #915",
    ),
)


def known_faults(checkpoints: Sequence[Checkpoint]) -> list[tuple[Fault, int]]:
    """Faults that touch a selection, and how many of its checkpoints each touches."""
    found = []
    for fault in FAULTS:
        touched = [
            c
            for c in checkpoints
            if re.fullmatch(fault.repository, c.repository) and fault.steps(c.step)
        ]
        if touched:
            found.append((fault, len(touched)))
    return found
