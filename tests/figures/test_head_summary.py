"""What the page says of heads."""

from __future__ import annotations

import xarray as xr

from figures.head_summary import head_sentences
from tests.figures.conftest import steps_of_run

PLACE = "measures/head_emergence/above_0.3/sotu"


def test_each_kind_of_head_is_named_with_its_step_in_order(tree: xr.DataTree) -> None:
    told = head_sentences(tree, {"main": "the run"})["the run"]
    steps = steps_of_run()
    # Scores of the made-up heads pass 0.3 where 0.85 / (1 + (at / step)³) does.
    first = {at: int(steps[steps >= at * (0.3 / 0.55) ** (1 / 3)][0]) for at in (60, 200, 300)}
    previous, duplicate, induction, sink, rule = told
    assert previous.startswith(f"Previous-token heads: 1 of 16: 1.1 from step {first[60]} [")
    assert duplicate.startswith(f"Duplicate-token heads: 1 of 16: 2.0 from step {first[200]} [")
    assert induction.startswith(f"Induction heads: 2 of 16: 3.3 from step {first[300]} [")
    assert ", 4.2 from step " in induction
    assert sink == "First-token (sink) heads: 1 of 16: 2.2 from step 0."
    assert rule.endswith("from a checkpoint on to the last.")


def test_a_single_checkpoint_has_its_strongest_heads_first(tree: xr.DataTree) -> None:
    part = tree.copy()
    emergence = tree[PLACE].to_dataset().sel(checkpoint=["main/step1500"])
    part[PLACE] = xr.DataTree(emergence.assign(value=emergence["value"] * 0 + 1))
    told = head_sentences(part, {})["main"]
    assert told[2].startswith("Induction heads: 16 of 16: 3.3, 4.2, ")
    assert told[2].endswith(" and 10 more.")
    assert told[-1].endswith("; strongest first.")


def test_kinds_without_heads_are_said_together(tree: xr.DataTree) -> None:
    part = tree.copy()
    emergence = tree[PLACE].to_dataset()
    there = emergence["behaviour"] == "first_key"
    part[PLACE] = xr.DataTree(emergence.assign(value=emergence["value"].where(there, 0)))
    told = head_sentences(part, {})["main"]
    assert "No previous-token, duplicate-token or induction heads were found." in told


def test_a_store_without_repeated_tokens_says_nothing(tree: xr.DataTree) -> None:
    part = tree.copy()
    del part["measures"]["head_emergence"]
    assert head_sentences(part, {}) == {}
