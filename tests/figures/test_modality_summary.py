"""What the page says of modalities in conflict."""

from __future__ import annotations

import pytest
import xarray as xr

from figures.modality_summary import modality_sentences
from probes.modality import REASONS
from tests.runs.modality_measured import measured_tree


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return measured_tree(24, 2)


def test_the_last_checkpoint_of_each_seed_is_told(tree: xr.DataTree) -> None:
    told = modality_sentences(tree, {"seed0": "first"})
    assert list(told) == ["first", "seed1"]
    following, trend, balance = told["first"]
    last = tree["measures/text_following/solved_both/scenes"].to_dataset().isel(checkpoint=3)
    assert f"{float(last['value']):.3f} [{float(last['lower']):.3f}" in following
    assert f"{float(last['cases']):.0f} conflicts" in following
    assert trend.startswith(
        "Rank correlation of following the text with relative uncertainty ΔH: −0."
    )
    assert balance.startswith("Balance point of ΔH, logistic fit: 0.")


def test_a_model_that_solves_nothing_has_no_preference(tree: xr.DataTree) -> None:
    changed = tree.copy()
    path = "measures/text_following/solved_both/scenes"
    data = changed[path].to_dataset()
    data["cases"] = data["cases"] * 0
    changed[path] = xr.DataTree(data)
    for said in modality_sentences(changed, {}).values():
        assert len(said) == 1
        assert said[0].startswith("No conflict is solved from each modality alone")


def test_no_balance_point_says_why(tree: xr.DataTree) -> None:
    changed = tree.copy()
    path = "measures/balance_point/logistic/scenes"
    data = changed[path].to_dataset()
    data["value"] = data["value"] * float("nan")
    data["reason"] = data["reason"] * 0 + REASONS.index("above")
    changed[path] = xr.DataTree(data)
    for *_, balance in modality_sentences(changed, {}).values():
        assert balance.startswith("Balance point of ΔH, logistic fit: not crossed (above")


def test_other_stores_say_nothing() -> None:
    assert modality_sentences(xr.DataTree(), {}) == {}
