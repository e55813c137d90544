"""A model in memory gives what a run over its checkpoint gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from runs import capture, measure, open_store
from runs.errors import InputError
from runs.jobs import execute
from runs.plan import make_plan
from runs.recipe import load_recipe
from tests.runs.conftest import speeches


@pytest.fixture
def model(series_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(series_folder / "step4").eval()


@pytest.fixture
def tokenizer(series_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(series_folder)


def test_it_is_the_tree_that_a_run_writes(
    write_recipe: Callable[..., Path], model: Any, tokenizer: Any
) -> None:
    recipe = load_recipe(write_recipe(steps="steps = [4]"))
    execute(recipe)
    stored = open_store(recipe.store)
    inputs = make_plan(recipe).specs["speeches"].inputs
    mine = capture(
        model, inputs, tokenizer=tokenizer, name="speeches", step=4, tokens=1024, block=4
    )
    assert {n.path for n in mine["sets"].subtree} == {n.path for n in stored["sets"].subtree}
    for part in ("hidden", "moments", "attention", "tokens", "points", "inputs"):
        ours = mine[f"sets/speeches/{part}"].to_dataset()
        theirs = stored[f"sets/speeches/{part}"].to_dataset().load()
        assert set(ours.variables) == set(theirs.variables), part
        for name in theirs.variables:
            assert ours[name].dims == theirs[name].dims, (part, name)
            if theirs[name].dtype.kind == "f":
                np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6, equal_nan=True)
            else:
                np.testing.assert_array_equal(ours[name], theirs[name])
    for name in ("rankme", "head_entropy", "loss", "rankme_streamed"):
        np.testing.assert_allclose(measure(mine, name), measure(stored, name), rtol=1e-6)


def test_texts_are_cut_and_padded(model: Any, tokenizer: Any) -> None:
    texts = speeches(9, words=30)
    texts[2] = "the union"
    tree = capture(model, texts, tokenizer=tokenizer, length=16, products=("tokens",))
    length = tree["sets/inputs/inputs"]["length"].values
    assert length.max() == 16
    assert length[2] < 16
    surprisal = tree["sets/inputs/tokens"]["surprisal"].isel(checkpoint=0).values
    np.testing.assert_array_equal(np.isfinite(surprisal).sum(1), length - 1)


def test_two_captures_do_not_share_a_lineage(model: Any, tokenizer: Any) -> None:
    """Measures are cached by lineage: a second capture must not be taken for the first."""
    one, two = (
        capture(model, speeches(9), tokenizer=tokenizer, products=("tokens",)) for _ in range(2)
    )
    attempts = [tree["checkpoints"]["attempt"].values.item() for tree in (one, two)]
    assert attempts[0] != attempts[1]


def test_what_cannot_be_captured_is_one_line(model: Any, tokenizer: Any) -> None:
    with pytest.raises(InputError, match="texts need `tokenizer=`"):
        capture(model, speeches(9))
    with pytest.raises(InputError, match="3 texts; at least 8"):
        capture(model, speeches(3), tokenizer=tokenizer)
    with pytest.raises(InputError, match="no option `blocks`; there are products, block"):
        capture(model, speeches(9), tokenizer=tokenizer, blocks=2)
    with pytest.raises(InputError, match="option `block`: Input should be greater"):
        capture(model, speeches(9), tokenizer=tokenizer, block=0)
    with pytest.raises(InputError, match="fewer than 2 tokens"):
        capture(model, [*speeches(9), "x"[:0]], tokenizer=tokenizer)
