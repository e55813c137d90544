"""Sets of repeated tokens, and the visits that read heads, against the models' own patterns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from probes.repetition import Repetition, readings
from runs import measure
from runs.attention_tap import attention_as, register
from runs.errors import InputError
from runs.inputs import build_set
from runs.jobs import execute
from runs.loaded import LoadedModel, wrap
from runs.plan import make_plan
from runs.points import choose_points
from runs.products.base import Spec
from runs.projections import output_projection
from runs.recipe import InputTable, load_recipe
from runs.store import open_store
from runs.tables import CaptureTable
from runs.visits import VISITS
from runs.visits.induction_ablation import choose_heads
from runs.visits.repeated_heads import HeadReadings, read_heads
from tests.runs.test_inputs import Words
from tests.runs.zoo import KNOWN, UNKNOWN, VOCABULARY, tiny

TABLE: dict[str, Any] = {
    "mode": "repeated",
    "period": 6,
    "repeats": 3,
    "limit": 10,
    "shuffle_seed": 3,
}
EVERY = [*KNOWN, *UNKNOWN]


class Vocabulary(Words):
    bos_token_id: int | None = 0
    eos_token_id: int | None = 0
    pad_token_id: int | None = 1

    def __len__(self) -> int:
        return VOCABULARY


def spec_of(loaded: LoadedModel, **changes: Any) -> Spec:
    inputs = build_set("r", InputTable.model_validate(TABLE | changes), Vocabulary())
    capture = CaptureTable.model_validate({"block": 4, "induction_ablation": {"heads": 2}})
    return Spec(inputs, choose_points(inputs), loaded.shape, capture, VOCABULARY)


def loaded_tiny(name: str, **changes: Any) -> LoadedModel:
    model = tiny(name, **changes)
    if name != "BLOOM":
        model.set_attn_implementation(register())
    return wrap(model)


# The set.


def test_a_set_of_repeated_tokens_is_what_the_table_says() -> None:
    made = build_set("r", InputTable.model_validate(TABLE | {"add_bos": True}), Words())
    assert made.tokens.shape == (10, 19)
    assert (made.tokens[:, 0] == 100).all()
    np.testing.assert_array_equal(made.tokens[:, 1:7], made.tokens[:, 7:13])
    np.testing.assert_array_equal(made.tokens[:, 1:7], made.tokens[:, 13:])
    # 100 ids of text: without 100, 101, 102 and an eighth at either end.
    assert made.tokens[:, 1:].min() >= 12
    assert made.tokens[:, 1:].max() < 88
    assert made.repetition == Repetition(6, 3, 1)
    assert made.description == (
        "10 samples of 6 different random tokens (the vocabulary's middle three quarters by id) × 3 "
        "after a BOS, seed 3"
    )


def test_everything_that_decides_the_set_is_in_its_digest() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"period": 9, "repeats": 2},
        {"shuffle_seed": 4},
        {"limit": 11},
        {"add_bos": True},
        {"id_range": (10, 80)},
    ]
    found = [build_set("r", InputTable.model_validate(TABLE | c), Words()) for c in changes]
    assert len({f.digest for f in found}) == len(changes)
    assert found[0].digest == build_set("r", InputTable.model_validate(TABLE), Words()).digest
    assert "ids 10–79" in found[-1].description
    # The same tokens read as another number of copies are another set.
    same = build_set("r", InputTable.model_validate(TABLE | {"repeats": 2}), Words())
    assert same.digest != found[0].digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "x.txt"}, "`path` does not go"),
        ({"length": 18}, "`length` does not go"),
        ({"labels": ["a"]}, "`labels` does not go"),
        ({"period": None}, "`period` is required"),
        ({"period": 2}, "greater than or equal to 3"),
        ({"repeats": 1}, "greater than or equal to 2"),
        ({"repeats": 2**40}, "less than or equal to 64"),
        ({"period": True}, "valid integer"),
        ({"limit": 3}, "greater than or equal to 8"),
        ({"id_range": [5, 5]}, "id_range"),
        ({"mode": "packed", "path": "x", "length": 9}, "goes with mode"),
    ],
)
def test_keys_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        InputTable.model_validate(TABLE | changes)


@pytest.mark.parametrize("key", ["period", "repeats", "limit", "shuffle_seed"])
def test_what_decides_the_tokens_is_required(key: str) -> None:
    with pytest.raises(ValidationError, match=f"`{key}` is required"):
        InputTable.model_validate({k: v for k, v in TABLE.items() if k != key})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"period": 77}, "77 different tokens are wanted and there are 76"),
        ({"id_range": [10, 14]}, "there are 4"),
        ({"limit": 2**50}, "GB of memory are free"),
    ],
)
def test_a_set_that_cannot_be_drawn_is_refused_in_one_line(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        build_set("r", InputTable.model_validate(TABLE | changes), Words())


def test_special_tokens_of_id_0_are_not_drawn() -> None:
    table = InputTable.model_validate(TABLE | {"id_range": (0, 8)})
    made = build_set("r", table, Vocabulary())
    assert set(made.tokens.ravel().tolist()) == {2, 3, 4, 5, 6, 7}


# Heads.


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("name", [n for n in EVERY if n != "BLOOM"])
def test_every_reading_is_that_of_the_models_own_patterns(name: str, start: bool) -> None:
    loaded = loaded_tiny(name)
    spec = spec_of(loaded, add_bos=start)
    layout = spec.inputs.repetition
    assert layout is not None
    masses, loss = read_heads(loaded, spec, layout)
    ids = torch.as_tensor(spec.inputs.tokens, dtype=torch.long)
    with torch.inference_mode(), attention_as(loaded.model, "eager"):
        own = loaded.model(ids, output_attentions=True, use_cache=False)
    names = HeadReadings(layout).names
    for block, pattern in enumerate(own.attentions):
        for index, (reading, entries) in enumerate(readings(layout).items()):
            wanted = sum(
                pattern[:, :, rows, rows - offset].sum(-1)
                for offset, rows in entries.entries.items()
            )
            np.testing.assert_allclose(
                masses[index, block], (wanted / entries.divisor).T, atol=2e-5, err_msg=reading
            )
        later = layout.copies[1:].ravel()
        first = pattern[:, :, later, 0].mean(-1).T
        np.testing.assert_allclose(masses[names.index("first_key"), block], first, atol=2e-5)
    surprisal = torch.nn.functional.cross_entropy(
        own.logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none"
    )
    np.testing.assert_allclose(loss, surprisal[:, layout.copies - 1].mean(-1).T, atol=2e-5)


@pytest.mark.parametrize("name", ["GPT-NeoX parallel", "Gemma-2"])
def test_heads_silenced_together_are_columns_of_the_output_projection(name: str) -> None:
    loaded = loaded_tiny(name)
    spec = spec_of(loaded)
    silent = frozenset({(1, 0), (3, 1), (3, 3)})
    args = (spec.inputs.tokens, spec.inputs.length)
    whole = loaded.surprisals(*args)
    found = loaded.surprisals(*args, zero_heads=silent)
    with torch.no_grad():
        for block, head in silent:
            weight = output_projection(loaded.blocks[block - 1]).weight
            width = weight.shape[1] // loaded.shape.heads
            weight[:, head * width : (head + 1) * width] = 0
    np.testing.assert_allclose(found, loaded.surprisals(*args), atol=1e-5)
    assert np.abs(found - whole).max() > 1e-3


# Weights.


# Gradients.


# Groups of heads.


def test_the_strongest_are_silenced_and_random_groups_hold_none_of_them() -> None:
    scores = np.array([[0.1, 0.9, np.nan], [0.8, 0.2, 0.3]])
    groups = choose_heads(scores, heads=2, draws=50, seed=1)
    assert groups[0] == []
    assert groups[1] == [(1, 1), (2, 0)]
    others = {(1, 0), (1, 2), (2, 1), (2, 2)}
    assert all(len(set(g)) == 2 and set(g) <= others for g in groups[2:])
    assert {h for g in groups[2:] for h in g} == others
    assert groups != choose_heads(scores, heads=2, draws=50, seed=2)


def test_a_group_is_silenced_as_ablation_does_it() -> None:
    loaded = loaded_tiny("Llama")
    spec = spec_of(loaded)
    found = VISITS["induction_ablation"].function(loaded, spec)
    layout = spec.inputs.repetition
    assert layout is not None
    assert found["loss"].shape == (22, 3, 10)
    silent = frozenset(map(tuple, found["silenced"].values[4].tolist()))
    single = loaded.surprisals(spec.inputs.tokens, spec.inputs.length, zero_heads=silent)
    np.testing.assert_allclose(
        found["loss"].values[5], single[:, layout.copies - 1].mean(-1).T, atol=1e-5
    )


def test_a_visit_of_repeated_tokens_refuses_another_set() -> None:
    loaded = loaded_tiny("Llama")
    spec = spec_of(loaded)
    text = replace(spec, inputs=replace(spec.inputs, repetition=None))
    for name in ("repeated_heads", "induction_ablation"):
        with pytest.raises(
            InputError, match=rf'`inputs.r`: visit `{name}` needs mode = "repeated"'
        ):
            VISITS[name].layout(text)
    many = spec.capture.model_copy(
        update={
            "induction_ablation": spec.capture.induction_ablation.model_copy(update={"heads": 7})
        }
    )
    with pytest.raises(InputError, match="7 heads beside as many others"):
        VISITS["induction_ablation"].layout(replace(spec, capture=many))


# From a recipe to measures.

RECIPE = """
[inputs.again]
mode = "repeated"
period = 6
repeats = 3
limit = 9
shuffle_seed = 0
products = ["tokens"]
visits = ["repeated_heads", "ov_copying", "head_importance", "induction_ablation"]

[capture.induction_ablation]
heads = 2
draws = 3
"""


def test_a_recipe_with_repeated_tokens_gives_measures(write_recipe: Callable[..., Path]) -> None:
    names = ["induction_score", "repeated_loss", "induction_gain", "head_emergence", "loss"]
    names += ["ov_copying", "head_importance", "induction_ablation", "prefix_matching"]
    path = write_recipe(steps="steps = [0, 4, 16]", measures=f"names = {names!r}")
    path.write_text(path.read_text() + RECIPE)
    tree = open_store(execute(load_recipe(path)).store)
    score = measure(tree, "induction_score")
    assert score.sizes == {"checkpoint": 3, "block": 3, "head": 4}
    assert "6 different random tokens" in score.attrs["inputs"]
    captured = tree["sets/again/repeated_heads"]["mass"].sel(reading="induction")
    np.testing.assert_allclose(score, captured.mean("sample"), rtol=1e-6)
    np.testing.assert_allclose(
        score["standard_error"], captured.astype(float).std("sample", ddof=1) / 3, rtol=1e-4
    )
    by_copy = measure(tree, "repeated_loss")
    gain = measure(tree, "induction_gain")
    np.testing.assert_allclose(gain, by_copy.sel(copy=2) - by_copy.sel(copy=1), atol=1e-12)
    # The token product saw the same model on the same tokens.
    surprisal = tree["sets/again/tokens"]["surprisal"].values
    later = surprisal[:, :, Repetition(6, 3).copies - 1].mean(-1)
    np.testing.assert_allclose(by_copy.values, later.mean(1), atol=1e-4)
    emerged = measure(tree, "head_emergence")
    assert set(emerged.dims) == {"checkpoint", "block", "head", "behaviour"}
    means = tree["sets/again/repeated_heads"]["mass"].sel(reading=emerged["behaviour"].values)
    means = means.mean("sample").rename(reading="behaviour").transpose(*emerged.dims)
    # Above from here to the end, computed from the end.
    wanted = (means[::-1] >= 0.3).cumprod("checkpoint")[::-1]
    np.testing.assert_array_equal(emerged, wanted)
    importance = measure(tree, "head_importance", convention="michel2019_layer")
    np.testing.assert_allclose(np.square(importance).sum("head"), 1, rtol=1e-12)
    ablated = measure(tree, "induction_ablation")
    assert ablated["group"].values.tolist()[:3] == ["none", "strongest", "random 1"]
    assert ablated.sizes["group"] == 5
    lost = tree["sets/again/induction_ablation"]["loss"].mean("ablated_sample")
    np.testing.assert_allclose(
        ablated.transpose(*lost.dims), lost - lost.sel(group="none"), atol=1e-12
    )


def test_a_plan_tells_where_a_visit_does_not_belong(write_recipe: Callable[..., Path]) -> None:
    path = write_recipe(capture='visits = ["repeated_heads"]')
    with pytest.raises(InputError, match=r"recipe.toml: key `inputs.speeches`: visit") as caught:
        make_plan(load_recipe(path))
    assert "\n" not in str(caught.value)
