"""The path one sample's token states take through the space of a layer: how it bends, how long it is.

Curvature is a name with several readings; each has its own: `curvature` is the angle between
successive differences (Hosseini & Fedorenko 2023), `unsigned_curvature` that angle without the sign
of its cosine, `state_angle` the angle between successive states themselves. The last two are what
published code of Skean et al. 2025 computes at two of its revisions.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

TRAJECTORY: Mapping[str, str] = MappingProxyType(
    {
        "curvature": "angle between successive differences, radians",
        "unsigned_curvature": "angle between successive differences as lines, 0 to π/2, radians",
        "state_angle": "angle between successive states, radians",
        "norm": "Euclidean norm of a state",
        "cosine": "cosine of two different tokens' states",
    }
)

_NUMBERS = 1 << 18  # float64 numbers of one copy of the samples worked on together


class TokenMean(NamedTuple):
    """A mean over one sample's tokens, and how many terms it has; NaN over none.

    NaN over one term or more means that a state was not finite.
    """

    value: Tensor
    terms: Tensor


def trajectory_statistics(states: Tensor, mask: Tensor | None = None) -> dict[str, TokenMean]:
    """Mean curvature, angle, norm and cosine along each sample's token states.

    Parameters
    ----------
    states
        Shape (…, token, feature), any real dtype, any device with float64.
    mask
        Boolean (…, token), True at real tokens. Padding may stand on either side and is never read
        into a sum, so it may be NaN; a gap ends the path and begins another. None: all are real.

    Returns
    -------
    dict of str to TokenMean
        The keys of `TRAJECTORY`; value (…) float64 and terms (…) int64 on the states' device. With
        d_t = z_{t+1} − z_t: `curvature` is the mean over t of arccos of the cosine of d_{t+1} and
        d_t, its argument clamped to [−1, 1]; `unsigned_curvature` takes the cosine's modulus;
        `state_angle` has z itself in place of d; `cosine` is the mean over all pairs of different
        tokens. A term with a vector of length 0 (a repeated token's difference in the embedding)
        has no angle: it is left out of the mean and of its terms.

    Raises
    ------
    ValueError
        If there are fewer than two dimensions or the mask does not fit.

    Notes
    -----
    Hosseini & Fedorenko 2023, 2311.04930 (after Hénaff et al. 2019) for curvature. Invariant under
    rotation and, `norm` apart, scaling; curvature also under translation; all under reversal of the
    order. Cost: about ten passes over the states; memory: four float64 copies of one sample, or of
    as many as fit into 2 MB each.
    """
    flat, real = _flat(states, mask)
    each = max(1, _NUMBERS // max(1, flat[0].numel())) if len(flat) else 1
    parts = [
        _of_samples(flat[start : start + each].double(), real[start : start + each])
        for start in range(0, max(len(flat), 1), each)
    ]
    lead = states.shape[:-2]
    return {
        name: TokenMean(
            torch.cat([part[name].value for part in parts]).reshape(lead),
            torch.cat([part[name].terms for part in parts]).reshape(lead),
        )
        for name in TRAJECTORY
    }


def real_tokens(states: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
    """Each sample's real token states (token, feature) in float64; arguments as above."""
    flat, real = _flat(states, mask)
    for sample, there in zip(flat, real, strict=True):
        yield sample[there].double()


def _flat(states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """States (sample, token, feature) and the mask (sample, token) on their device."""
    if states.ndim < 2:
        raise ValueError(f"states have shape {tuple(states.shape)}; give (…, token, feature)")
    if mask is None:
        mask = torch.ones(states.shape[:-1], dtype=torch.bool, device=states.device)
    if mask.dtype != torch.bool or mask.shape != states.shape[:-1]:
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}; give booleans of shape "
            f"{tuple(states.shape[:-1])}"
        )
    samples, (tokens, width) = states.shape[:-2].numel(), states.shape[-2:]
    flat = states.detach().reshape(samples, tokens, width)
    return flat, mask.to(states.device).reshape(samples, tokens)


def _of_samples(states: Tensor, real: Tensor) -> dict[str, TokenMean]:
    """All statistics of some samples (sample, token, feature) in float64."""
    states = torch.where(real[..., None], states, 0.0)  # padding may be NaN
    norms = torch.linalg.vector_norm(states, dim=-1)
    differences = states[:, 1:] - states[:, :-1]
    pairs = real[:, 1:] & real[:, :-1]
    turns, bent = _cosines(differences, torch.linalg.vector_norm(differences, dim=-1), pairs)
    along, walked = _cosines(states, norms, real)
    # A NaN norm counts as a direction, and spreads.
    known = real & (norms != 0)
    units = torch.where(known[..., None], states / norms[..., None], 0.0)
    n = known.sum(dim=1)
    # Σ over pairs of u·v is |Σ u|² less the n squares.
    together = units.sum(dim=1).square().sum(dim=1) - units.square().sum(dim=(1, 2))
    return {
        "curvature": _mean(_angle(turns), bent),
        "unsigned_curvature": _mean(_angle(turns.abs()), bent),
        "state_angle": _mean(_angle(along), walked),
        "norm": _mean(norms, real),
        "cosine": TokenMean(together / (n * (n - 1)), n * (n - 1)),
    }


def _cosines(vectors: Tensor, lengths: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of successive vectors, and which of them are of two that have a direction."""
    usable = there & (lengths != 0)
    products = (vectors[:, 1:] * vectors[:, :-1]).sum(dim=-1)
    return products / lengths[:, 1:] / lengths[:, :-1], usable[:, 1:] & usable[:, :-1]


def _angle(cosine: Tensor) -> Tensor:
    return torch.arccos(cosine.clamp(-1.0, 1.0))  # rounding may pass 1; clamp keeps NaN


def _mean(terms: Tensor, there: Tensor) -> TokenMean:
    count = there.sum(dim=1)
    return TokenMean(torch.where(there, terms, 0.0).sum(dim=1) / count, count)
