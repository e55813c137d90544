"""The metric that predictions put on hidden states: the Fisher metric, pulled back and averaged."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from geometry.softmax import probability_blocks
from geometry.spectrum import spectrum_of

_EPS = float(np.finfo(np.float64).eps)
_ROWS = 512  # states that share one walk through the vocabulary
_ENTRIES = 4096  # rows of the unembedding held in float64 at a time


class FisherMetric:
    """Mean over a stream of states of the pullback Fisher metric of the next-token distribution.

    For logits z = W h + b and p = softmax(z), KL(p(h) ‖ p(h + εv)) = ½ ε² vᵀ g(h) v + O(ε³) with
    g(h) = Wᵀ (diag p − p pᵀ) W: how far a step in hidden space moves the prediction. Its mean is
    G = Wᵀ diag(p̄) W − E[μ μᵀ], p̄ = E[p], μ = Wᵀ p, which two streamed sums give.

    Parameters
    ----------
    unembedding : tensor (vocabulary, feature)
        W, one row a token; kept as it is, never copied whole.
    bias : tensor (vocabulary,), optional
        b; moves p and nothing else.
    vocab_size
        Real vocabulary; rows beyond it are padding and left out of p.
    softcap
        The c of logits c·tanh(z / c). Then W's rows are scaled by 1 − tanh²(z / c), state by state.
    chunk
        Vocabulary entries a block; see `probability_blocks`.

    Notes
    -----
    Zhang, 2507.19247, §6 (pullback of the Fisher-Rao metric; the paper measures nothing); the form
    in two moments follows by averaging. A sum of Gram matrices: positive semi-definite whatever the
    rounding of p, since a row's probabilities are divided by their own sum. W is centred first, to which
    a softmax is blind, so a large mean row costs no digits (not with a softcap, which sees it).

    Accumulators are float64: vocabulary + feature² numbers. A state costs two products with W in float32
    (one where the vocabulary fits into a block) and one in float64. The result does not depend on `chunk`
    beyond round-off. NaN or Inf in a state makes everything NaN.
    """

    def __init__(
        self,
        unembedding: Tensor,
        *,
        bias: Tensor | None = None,
        vocab_size: int | None = None,
        softcap: float | None = None,
        chunk: int | None = None,
    ) -> None:
        self._weight = unembedding[:vocab_size]
        self._bias, self._softcap, self._chunk = bias, softcap, chunk
        vocabulary, width = self._weight.shape
        self.count = 0
        with torch.inference_mode(False):
            zeros = partial(torch.zeros, dtype=torch.float64, device=unembedding.device)
            self._centre: Tensor = zeros(width)
            self._mass: Tensor = zeros(())
            self._weights: Tensor = zeros(vocabulary)
            self._outer: Tensor = zeros((width, width))
        if softcap is None:
            for start in range(0, vocabulary, _ENTRIES):
                part = self._weight[start : start + _ENTRIES].detach()
                self._centre += part.double().sum(0) / vocabulary

    @torch.no_grad()
    def update(self, hidden: Tensor) -> None:
        """Take in final states.

        Parameters
        ----------
        hidden
            Shape (…, feature), after the final norm, on the unembedding's device.

        Raises
        ------
        ValueError
            If it does not end in the unembedding's width.
        """
        rows = hidden.reshape(-1, hidden.shape[-1])
        for start in range(0, len(rows), _ROWS):
            self._add(rows[start : start + _ROWS])
        self.count += len(rows)

    def merge(self, other: FisherMetric) -> None:
        """Take in everything another accumulator of the same unembedding has seen."""
        if other._outer.shape != self._outer.shape or other._weights.shape != self._weights.shape:
            raise ValueError("other has another unembedding; give a metric of the same one")
        self._mass += other._mass
        self._weights += other._weights
        self._outer += other._outer
        self.count += other.count

    def metric(self) -> Tensor:
        """G, shape (feature, feature), float64; NaN when nothing was seen.

        Costs vocabulary·feature² multiply-adds in float64.
        """
        return (self._first() - self._outer) / self._mass

    def eigenvalues(self) -> Tensor:
        """Spectrum of G, shape (feature,), float64, on the CPU, descending.

        In nats per squared unit of hidden state. What the subtraction leaves of round-off is 0.
        """
        first = self._first()
        values = spectrum_of(((first - self._outer) / self._mass).cpu().numpy())
        # Round-off is that of the two terms, which may be far larger than their difference.
        floor = float(first.trace() / self._mass) * _EPS * len(values)
        return torch.from_numpy(np.where(values <= floor, 0.0, values))

    def _add(self, rows: Tensor) -> None:
        # float64: p of a confident state is nearly one-hot, and what is left of G a small difference.
        mass = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        mean = torch.zeros(rows.shape, dtype=torch.float64, device=rows.device)
        for block in probability_blocks(
            rows, self._weight, bias=self._bias, softcap=self._softcap, chunk=self._chunk
        ):
            p = block.p.double()
            mass += p.sum(1)
            if block.slope is not None:
                slope = block.slope.double()
                p *= slope  # p s: pulls W's rows; p s²: weighs them in the first term
                self._weights[block.start : block.stop] += (p * slope).sum(0)
            else:
                self._weights[block.start : block.stop] += p.sum(0)
            mean.addmm_(p, block.weight.double() - self._centre)
        # Over the row's own sum: then diag(p) − p pᵀ / Σp is positive semi-definite to the last bit.
        mean /= mass.sqrt()[:, None]
        self._outer.addmm_(mean.T, mean)
        self._mass += mass.sum()

    def _first(self) -> Tensor:
        """Σ Wᵀ diag(p) W over the states seen."""
        total = torch.zeros_like(self._outer)
        weight = self._weight.detach()
        for start in range(0, len(weight), _ENTRIES):
            stop = start + _ENTRIES
            part = weight[start:stop].double() - self._centre
            part *= self._weights[start:stop].sqrt()[:, None]
            total.addmm_(part.T, part)
        return total
