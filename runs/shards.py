"""Shards: every n-th checkpoint of a series, for a job that is started n times."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from runs.errors import InputError
from runs.plan import Plan


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` parts of a series, counted from 1.

    Attributes
    ----------
    index, count : int
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def part(self, plan: Plan) -> Plan:
        """The same plan with this shard's checkpoints only.

        Each n-th, so that every shard sees the whole of training and all end at about the same time.
        """
        mine = plan.series.checkpoints[self.index - 1 :: self.count]
        return replace(plan, series=replace(plan.series, checkpoints=mine))


def parse_shard(text: str) -> Shard:
    """Read `i/n`.

    Parameters
    ----------
    text
        Two whole numbers, the first from 1 to the second.

    Raises
    ------
    InputError
        If it is anything else.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= index <= count:
        raise InputError(
            f"--shard is {text!r}; give i/n with i from 1 to n, such as 3/8 (in a SLURM array started by "
            "--array=1-n: $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT)"
        )
    return Shard(index, count)
