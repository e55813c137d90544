"""Ablation: what a model loses without one of its heads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Losses = Callable[[tuple[int, int] | None], NDArray[np.float64]]


def head_ablation(
    losses: Losses, *, blocks: int, heads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss of every sample with each head silenced in turn.

    Parameters
    ----------
    losses
        Called with None or (block, head); gives the mean surprisal of each sample (sample,), in nats,
        of the whole model or with that head's output set to zero. Blocks count from 1, heads from 0.
    blocks, heads
        Sizes of the model.

    Returns
    -------
    whole : float64 array (sample,)
        Loss of the whole model.
    ablated : float64 array (block, head, sample)
        Loss without each head.

    Notes
    -----
    Costs blocks × heads + 1 forward passes over the samples; keeps only the losses. Zero ablation
    (Michel, Levy & Neubig 2019, arXiv 1905.10650 §2) also removes the head's mean output, so it reads
    higher than mean ablation.
    """
    whole = losses(None)
    ablated = np.empty((blocks, heads, len(whole)))
    for block in range(blocks):
        for head in range(heads):
            ablated[block, head] = losses((block + 1, head))
    return whole, ablated
