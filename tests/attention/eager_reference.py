"""Row statistics by their definitions, from all probabilities at once in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attention.entropy import entropy_bounds

FLOOR = 1e-3  # nats between the bounds of a row, below which it has no share
TOLERANCE = {
    "entropy": 2e-5,
    "distance": 2e-4,
    "max_logit": 2e-5,
    "log_normaliser": 2e-5,
    "row_norm": 5e-5,
    "lower_bound": 1e-5,
    "upper_bound": 1e-5,
}


def conditioned(
    rows: dict[str, Tensor], entropy: float, bounds: float | None = None
) -> dict[str, Tensor]:
    """What errors of an entropy and of its bounds become in what is derived from them, row by row.

    exp(H) multiplies an error of H by itself; H / ln n divides it by ln n; (H − lower) / (upper − lower),
    a share in 0 … 1, takes that of H, twice that of the lower bound and that of the upper one over their
    distance, which vanishes for nearly equal logits.
    """
    h, lower, upper = (rows[n].double() for n in ("entropy", "lower_bound", "upper_bound"))
    apart = (upper - lower).nan_to_num(1.0)
    edges = entropy if bounds is None else bounds
    share = (entropy + 3 * edges) / apart.clamp(min=FLOOR)  # nearer ones have no share
    # So near to the floor that rounding decides whether there is one.
    share[(apart - FLOOR).abs() <= 2 * edges] = torch.inf
    return {
        "effective_support": entropy * h.nan_to_num(0.0).exp(),
        "normalised_entropy": entropy / rows["visible"].double().nan_to_num(2.0).clamp(min=2).log(),
        "bound_share": share,
    }


def draw(
    *shape: int, kv: int | None = None, seed: int = 0, size: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v with the last dimension as features; logits have about `size` as standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    batch, heads, length, width = shape
    q = torch.randn(batch, heads, length, width, generator=generator) * size
    k = torch.randn(batch, kv or heads, length, width, generator=generator) + 0.5
    v = torch.randn(batch, kv or heads, length, width + 1, generator=generator)
    return q, k, v


def visible_keys(length: int, mask: Tensor | None, causal: bool, window: int | None) -> Tensor:
    i, j = torch.arange(length)[:, None], torch.arange(length)
    seen = torch.ones(length, length, dtype=torch.bool)
    if causal:
        seen &= j <= i
    if window is not None:
        seen &= j > i - window
    return seen[None, None] & (
        torch.ones(1, 1, 1, length, dtype=torch.bool) if mask is None else mask[:, None, None]
    )


def eager(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scaling: float,
    key_mask: Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The definitions in float64 with all probabilities at once; bias is a full tensor here."""
    q, k, v = q.double(), k.double(), v.double()
    batch, heads, length, _ = q.shape
    k, v = (x.repeat_interleave(heads // x.shape[1], 1) for x in (k, v))
    s = torch.einsum("bhid,bhjd->bhij", q, k) * scaling
    if softcap is not None:
        s = softcap * torch.tanh(s / softcap)
    if bias is not None:
        s = s + bias
    seen = visible_keys(length, key_mask, causal, window).expand_as(s)
    masked = s.masked_fill(~seen, -torch.inf)
    if sink is not None:
        slot = sink.double().view(1, heads, 1, 1).expand(batch, heads, length, 1)
        masked = torch.cat([masked, slot], -1)
    p = torch.nan_to_num(torch.softmax(masked, -1))
    entropy = torch.special.entr(p).sum(-1)
    p = p[..., :length]
    n = seen.sum(-1).double()
    centred = torch.where(seen, s - (s * seen).sum(-1, keepdim=True) / n[..., None], 0)
    first = 0 if key_mask is None else key_mask.int().argmax(-1)[:, None]
    place = torch.arange(length).double()
    before = F.pad(p.diagonal(-1, -2, -1), (1, 0))
    has_before = F.pad(seen.diagonal(-1, -2, -1), (1, 0))
    outcomes = n if sink is None else n + 1
    logits = s.masked_fill(~seen, torch.nan)
    if sink is not None:
        logits = torch.cat([logits, slot], -1)
    apart = torch.nan_to_num(logits - logits.nanmean(-1, keepdim=True)).norm(dim=-1)
    bounds = entropy_bounds(apart.numpy(), outcomes.clamp(min=1).numpy())
    lower, upper = map(torch.as_tensor, bounds)
    gap = upper - lower
    statistics = {
        "top_mass": p.amax(-1),
        "effective_support": entropy.exp(),
        "lower_bound": lower,
        "upper_bound": upper,
        "bound_share": torch.where(gap > FLOOR, (entropy - lower) / gap, torch.nan),
        "entropy": entropy,
        "normalised_entropy": torch.where(n > 1, entropy / outcomes.log(), torch.nan),
        "max_logit": masked[..., :length].amax(-1),
        "log_normaliser": masked.logsumexp(-1),
        "row_norm": centred.norm(dim=-1),
        "first_key": (p * (place == torch.as_tensor(first)[..., None, None])).sum(-1)
        if key_mask is not None
        else p[..., 0],
        "previous_key": torch.where(has_before, before, torch.nan),
        "distance": (p * (place[:, None] - place)).sum(-1),
        "visible": n,
    }
    output = p @ v
    if key_mask is not None:
        valid = key_mask[:, None]
        statistics = {name: x.where(valid, torch.nan) for name, x in statistics.items()}
        output = output.where(valid[..., None], 0.0)
    return output, statistics, p


def same(found: dict[str, Tensor], wanted: dict[str, Tensor], scale: float = 1.0) -> None:
    """Compare every statistic; a derived one to what the errors it is made of become in it."""
    assert found.keys() == wanted.keys()
    derived: dict[str, Tensor] = {}
    if {"entropy", "lower_bound", "upper_bound", "visible"} <= wanted.keys():
        derived = conditioned(wanted, TOLERANCE["entropy"], TOLERANCE["lower_bound"])
    for name, value in found.items():
        near(
            name,
            value,
            wanted[name],
            atol=scale * derived.get(name, torch.tensor(TOLERANCE.get(name, 5e-6))),
            rtol=2e-6 * scale,
        )


def near(name: str, found: Tensor, wanted: Tensor, *, atol: Tensor | float, rtol: float) -> None:
    """`torch.testing.assert_close` by a tolerance for each element; where it is inf, NaN or not."""
    found, wanted = found.double(), wanted.double()
    assert found.shape == wanted.shape
    any_is_right = torch.as_tensor(atol).isinf()
    elsewhere = (found.isnan() != wanted.isnan()) & ~any_is_right
    assert not elsewhere.any(), f"{name} is NaN elsewhere"
    compared = ~(found.isnan() | wanted.isnan() | (found == wanted) | any_is_right)
    beyond = ((found - wanted).abs() - (atol + rtol * wanted.abs())).masked_fill(~compared, 0.0)
    assert beyond.max() <= 0, f"{name} differs by {beyond.max():.1e} more than it may"


def padding(batch: int, length: int, side: str) -> Tensor:
    """Sample b loses 2 + 3 b tokens."""
    lost = 2 + 3 * torch.arange(batch)[:, None]
    place = torch.arange(length)
    if side == "holes":
        return (place + lost) % 5 != 0
    return place >= lost if side == "left" else place < length - lost
