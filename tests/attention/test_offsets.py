"""Mass at fixed offsets against the diagonals of all probabilities in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attention.offsets import offset_mass
from attention.streaming import row_statistics
from tests.attention.eager_reference import draw, eager, padding, visible_keys
from tests.attention.test_streaming import CASES

OFFSETS = (0, 1, 4, 8, 36, 37, 60)


@pytest.mark.parametrize("side", [None, "left", "right", "holes"])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_all_probabilities_in_float64(case: str, side: str | None) -> None:
    q, k, v = draw(3, 4, 37, 8, kv=2, size=2.0)
    mask = None if side is None else padding(3, 37, side)
    options: dict[str, Any] = CASES[case] | {"scaling": 0.4, "key_mask": mask}
    _, _, p = eager(q, k, v, **options)
    seen = visible_keys(37, mask, options.get("causal", True), options.get("window"))
    seen = seen.expand(3, 4, 37, 37)
    if mask is not None:
        seen = seen & mask[:, None, :, None]
    statistics = row_statistics(q, k, **options)
    found = offset_mass(q, k, statistics["log_normaliser"], OFFSETS, **options)
    assert found.dtype == torch.float32
    for column, offset in enumerate(OFFSETS):
        wanted = torch.full((3, 4, 37), torch.nan, dtype=torch.float64)
        if offset < 37:
            there = seen.diagonal(-offset, -2, -1)
            wanted[..., offset:] = p.diagonal(-offset, -2, -1).where(there, torch.nan)
        torch.testing.assert_close(
            found[..., column].double(), wanted, atol=5e-6, rtol=1e-5, equal_nan=True
        )
    if case != "bidirectional":
        torch.testing.assert_close(
            found[..., 1], statistics["previous_key"], atol=5e-6, rtol=0, equal_nan=True
        )


def test_slopes_are_a_bias_on_distance() -> None:
    q, k, v = draw(2, 4, 21, 8)
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.0])
    place = torch.arange(21.0)
    full = -slopes[:, None, None] * (place[:, None] - place).abs()
    _, _, p = eager(q, k, v, scaling=0.3, bias=full)
    lse = row_statistics(q, k, scaling=0.3, bias=slopes)["log_normaliser"]
    found = offset_mass(q, k, lse, [3], scaling=0.3, bias=slopes)[:, :, 3:, 0]
    torch.testing.assert_close(found.double(), p.diagonal(-3, -2, -1), atol=5e-6, rtol=1e-5)


def test_all_offsets_together_are_one() -> None:
    q, k, _ = draw(2, 4, 30, 8, kv=2, size=9.0)
    lse = row_statistics(q, k, scaling=0.4)["log_normaliser"]
    found = offset_mass(q, k, lse, range(30), scaling=0.4)
    torch.testing.assert_close(found.nansum(-1), torch.ones(2, 4, 30), atol=3e-5, rtol=0)


def test_uniform_attention_is_one_over_the_visible_keys() -> None:
    q, k, _ = draw(1, 2, 12, 4)
    q = q.double() * 0
    lse = row_statistics(q, k.double(), scaling=1.0)["log_normaliser"]
    found = offset_mass(q, k.double(), lse, [5], scaling=1.0)
    assert found.dtype == torch.float64
    wanted = (1 / torch.arange(6, 13, dtype=torch.float64)).expand(1, 2, 7)
    torch.testing.assert_close(found[:, :, 5:, 0], wanted)


def test_a_negative_offset_or_another_shape_is_refused() -> None:
    q, k, _ = draw(1, 2, 12, 4)
    lse = row_statistics(q, k, scaling=1.0)["log_normaliser"]
    with pytest.raises(ValueError, match="offsets"):
        offset_mass(q, k, lse, [-1], scaling=1.0)
    with pytest.raises(ValueError, match="log_normaliser"):
        offset_mass(q, k, lse[:, :1], [1], scaling=1.0)
