"""What every backend does last to the statistics of rows: rounding, normalisation, padding."""

from __future__ import annotations

import torch
from torch import Tensor

from attention.operands import Rule
from attention.row_bounds import bound_share, norm_with_sink, row_bounds

_FLAG = -1e-3  # an entropy below this is not rounding


def finish(
    found: dict[str, Tensor], visible: Tensor, padding: Tensor | None, rule: Rule
) -> dict[str, Tensor]:
    """Clean rounding, derive the rest, NaN at padded queries.

    Parameters
    ----------
    found : dict of tensors (batch, kv_head, group, position)
        entropy, max_logit, log_normaliser, top_mass, row_norm, first_key, previous_key, distance as
        computed; with a sink also sink_gap, its logit less the mean of the row's.
    visible : tensor (batch, position)
        Keys each query sees, at least 1.
    padding : bool tensor (batch, position), optional
        True at padding.
    rule
        Window and sink matter here.

    Returns
    -------
    dict of float32 tensors (batch, head, position)
        With `normalised_entropy`, `visible`, `effective_support` and the bounds added.
    """
    entropy = found["entropy"]
    entropy = torch.where(entropy < _FLAG, torch.nan, entropy.clamp(min=0))
    visible = visible[:, None, None].expand_as(entropy)
    outcomes = visible if rule.sink is None else visible + 1
    normalised = torch.where(visible > 1, entropy / outcomes.log(), torch.nan)
    before = torch.ones_like(entropy, dtype=torch.bool)
    before[..., 0] = False
    if padding is not None:
        before[..., 1:] &= ~padding[:, None, None, :-1]
    before &= rule.window != 1
    norm = torch.where(visible > 1, found["row_norm"], found["row_norm"] * 0)
    gap = found.get("sink_gap")
    lower, upper = row_bounds(norm if gap is None else norm_with_sink(norm, gap, visible), outcomes)
    statistics = {name: value for name, value in found.items() if name != "sink_gap"} | {
        "entropy": entropy,
        "effective_support": entropy.exp(),
        "row_norm": norm,
        "lower_bound": lower,
        "upper_bound": upper,
        "bound_share": bound_share(entropy, lower, upper),
        "normalised_entropy": normalised,
        "previous_key": torch.where(before, found["previous_key"], torch.nan),
        "visible": visible,
    }
    if padding is not None:
        valid = ~padding[:, None, None]
        statistics = {n: torch.where(valid, each, torch.nan) for n, each in statistics.items()}
    return {name: value.flatten(1, 2).float() for name, value in statistics.items()}
