"""A cloud's eigen-directions, and states with the top ones removed or only those retained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geometry.spectrum import decompose


@dataclass(frozen=True)
class Directions:
    """The eigen-directions of a cloud of states.

    Attributes
    ----------
    mean : tensor (feature,)
        Centre of the cloud; zero if the mean is not kept.
    basis : tensor (feature, rank)
        Orthonormal eigenvectors of the covariance, by falling eigenvalue.
    """

    mean: Tensor
    basis: Tensor

    def retained(self, x: Tensor, k: int) -> Tensor:
        """Only the top k directions: m + V_k V_kᵀ (x − m); of the shape and type of `x` (…, feature)."""
        return self._apply(x, k, keep=True)

    def removed(self, x: Tensor, k: int) -> Tensor:
        """All but the top k directions: x − V_k V_kᵀ (x − m); of the shape and type of `x`."""
        return self._apply(x, k, keep=False)

    def _apply(self, x: Tensor, k: int, *, keep: bool) -> Tensor:
        # MPS has no float64.
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        mean, basis = (t.to(x.device, wide) for t in (self.mean, self.basis[:, :k]))
        states = x.to(wide)
        part = (states - mean) @ basis @ basis.T
        return (mean + part if keep else states - part).to(x.dtype)


def principal_directions(states: NDArray[Any], *, keep_mean: bool = True) -> Directions:
    """Eigen-directions of the covariance of a cloud.

    Parameters
    ----------
    states : float array (sample, feature)
        A cloud of finite states.
    keep_mean
        The covariance is centred either way. True: only what differs from the mean is projected, so
        the mean stays in every state. False: states are projected as they are, and the mean with them.

    Returns
    -------
    Directions
        As many as the covariance's rank, where that is below the number of features; all of them
        otherwise.

    Raises
    ------
    ValueError
        If a state holds NaN or Inf.

    Notes
    -----
    The eigenvectors behind RankMe and α-ReQ of arXiv 2509.23024, §3. Its Table 8 removes or retains
    them and does not say where, or what becomes of the mean. With the mean kept, removed + retained =
    x + m; otherwise removed + retained = x. Memory: 2 min(sample, feature)² float64.
    """
    found = decompose(states, centered=True)
    vectors = found.vectors
    if not np.isfinite(found.values).all():
        raise ValueError("the states hold NaN or Inf; eigen-directions need finite ones")
    if not found.feature_side:
        # Few states: what the decomposition gives are vectors over samples.
        there = found.values > 0
        vectors = (np.asarray(states, np.float64) - found.mean).T @ vectors[:, there]
        vectors /= np.sqrt(found.values[there] * len(states))
    mean = torch.as_tensor(np.ravel(found.mean))
    basis = torch.as_tensor(np.ascontiguousarray(vectors))
    return Directions(mean if keep_mean else torch.zeros_like(mean), basis)
