"""Points: the places where hidden states are kept one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runs.inputs import InputSet


@dataclass(frozen=True)
class Points:
    """Places in a set, last tokens first.

    Attributes
    ----------
    sample, position : int32 array (point,)
        Where the state is.
    last : bool array (point,)
        Whether it is its sample's last token, as the phase paper reads.
    """

    sample: NDArray[np.int32]
    position: NDArray[np.int32]
    last: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.sample)


def choose_points(inputs: InputSet, *, extra_positions: int = 0) -> Points:
    """The last token of every sample, then `extra_positions` further ones of each.

    The further positions are drawn without replacement, from a generator seeded by the set's digest, so
    they are the same for every checkpoint.

    Parameters
    ----------
    inputs
        The set.
    extra_positions
        How many positions a sample besides the last; short samples give all they have.

    Returns
    -------
    Points
    """
    samples = [np.arange(inputs.samples, dtype=np.int32)]
    positions = [inputs.length - 1]
    if extra_positions:
        generator = np.random.default_rng(int(inputs.digest[:16], 16))
        for row, length in enumerate(inputs.length):
            count = min(extra_positions, int(length) - 1)
            drawn = np.sort(generator.choice(int(length) - 1, count, replace=False))
            samples.append(np.full(count, row, np.int32))
            positions.append(drawn.astype(np.int32))
    sample = np.concatenate(samples)
    last = np.arange(len(sample)) < inputs.samples
    return Points(sample, np.concatenate(positions).astype(np.int32), last)
