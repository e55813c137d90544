"""Massive activations: the few numbers of a hidden state that dwarf all others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

ABSOLUTE = 100.0
RATIO = 1000.0


class Largest(NamedTuple):
    """The largest magnitudes of each sample's states, where they are, and the median beside them."""

    magnitude: Tensor
    position: Tensor
    feature: Tensor
    median: Tensor


@torch.no_grad()
def largest_magnitudes(state: Tensor, length: ArrayLike, *, count: int = 3) -> Largest:
    """The largest |x| of each sample over its positions and features, and the median |x|.

    Parameters
    ----------
    state : float tensor (sample, position, feature)
        Hidden states, padded on the right.
    length : int array (sample,)
        Real positions of each sample.
    count
        How many magnitudes.

    Returns
    -------
    Largest
        magnitude (sample, count), descending, with position and feature of each; median (sample,). NaN
        counts as the largest. float32, int64 on the CPU.

    Raises
    ------
    ValueError
        If a sample has fewer than `count` numbers.

    Notes
    -----
    Sun et al. 2024, arXiv 2402.17762, whose code sorts |x| of one sequence and layer. The median of an
    even number of values is the lower of the two in the middle, as torch's. Costs a copy of one sample's
    states at a time.
    """
    wide = state.shape[-1]
    values, places, medians = [], [], []
    for each, real in zip(state, np.asarray(length).tolist(), strict=True):
        flat = each[:real].abs().flatten().float()
        if len(flat) < count:
            raise ValueError(f"a sample has {len(flat)} numbers, fewer than the {count} wanted")
        top = torch.topk(flat, count)
        values.append(top.values)
        places.append(top.indices)
        medians.append(flat.median())
    place = torch.stack(places).cpu()
    return Largest(
        torch.stack(values).cpu(), place // wide, place % wide, torch.stack(medians).cpu()
    )


def is_massive(
    magnitude: ArrayLike,
    median: ArrayLike,
    *,
    absolute: float = ABSOLUTE,
    ratio: float = RATIO,
) -> NDArray[np.float64]:
    """Whether an activation is massive, 1 or 0: |x| > 100 and |x| > 1000 × the median of its state.

    Parameters
    ----------
    magnitude, median : arrays (…)
        Of `largest_magnitudes`.
    absolute, ratio
        The two thresholds; 100 and 1000 in Sun et al. 2024 §2.

    Returns
    -------
    float64 array (…)
        NaN where one of both is.
    """
    top = np.asarray(magnitude, dtype=np.float64)
    middle = np.asarray(median, dtype=np.float64)
    found = (top > absolute) & (top > ratio * middle)
    return np.where(np.isnan(top) | np.isnan(middle), np.nan, found)
