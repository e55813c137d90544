"""Next-token probabilities of many states, a block of the vocabulary at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

LOGITS = 1 << 20  # logits held at a time


class ProbabilityBlock(NamedTuple):
    """Probabilities of the vocabulary entries start … stop − 1.

    Attributes
    ----------
    start, stop : int
    weight : tensor (entry, feature)
        Their rows of the unembedding, in the dtype it came in.
    p : float32 tensor (row, entry)
        Over all blocks a row sums to 1 within a few 1e-6: its normaliser is rounded once.
    slope : float32 tensor (row, entry) or None
        Derivative of a soft-capped logit by the plain one; None (it is 1) without a cap.
    """

    start: int
    stop: int
    weight: Tensor
    p: Tensor
    slope: Tensor | None


def probability_blocks(
    rows: Tensor,
    unembedding: Tensor,
    *,
    bias: Tensor | None = None,
    vocab_size: int | None = None,
    softcap: float | None = None,
    chunk: int | None = None,
) -> Iterator[ProbabilityBlock]:
    """Walk through the vocabulary with the next-token probabilities of all rows.

    Parameters
    ----------
    rows : tensor (row, feature)
        Final states, after the final norm.
    unembedding : tensor (vocabulary, feature)
    bias : tensor (vocabulary,), optional
        Added to the logits.
    vocab_size
        Real vocabulary; rows of the unembedding beyond it are padding and left out.
    softcap
        Logits become softcap · tanh(logit / softcap).
    chunk
        Vocabulary entries a block; chosen so that a block has about a million logits.

    Yields
    ------
    ProbabilityBlock
        Every entry of the vocabulary once, in order.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Notes
    -----
    Two passes: normalisers first (logits in float32, their sum's logarithm in float64), then
    probabilities; a vocabulary that fits into one block is multiplied once. Memory: two or three
    blocks.
    """
    weight = unembedding[:vocab_size]
    if rows.ndim != 2 or weight.ndim != 2 or rows.shape[1] != weight.shape[1]:
        raise ValueError(
            f"rows {tuple(rows.shape)} and unembedding {tuple(weight.shape)} must be "
            "(row, feature) and (vocabulary, feature)"
        )
    states = rows.float()
    offset = None if bias is None else bias[: len(weight)].float()
    size = min(chunk or max(256, LOGITS // max(len(rows), 1)), len(weight))
    spans = [(i, min(i + size, len(weight))) for i in range(0, len(weight), size)]

    def logits(start: int, stop: int) -> Tensor:
        found = states @ weight[start:stop].float().T
        if offset is not None:
            found += offset[start:stop]
        return found if softcap is None else found.div_(softcap).tanh_().mul_(softcap)

    held = logits(*spans[0])
    normaliser = held.logsumexp(1).double()
    for span in spans[1:]:
        normaliser = torch.logaddexp(normaliser, logits(*span).logsumexp(1).double())
    shift = normaliser.float()[:, None]
    for start, stop in spans:
        found = held if len(spans) == 1 else logits(start, stop)
        slope = None if softcap is None else 1 - (found / softcap).square()
        yield ProbabilityBlock(start, stop, weight[start:stop], found.sub_(shift).exp_(), slope)
