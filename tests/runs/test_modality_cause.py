"""Patching and steering on tiny random models, where what must come out is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import runs.sets
from probes.cases import Cases
from runs import measure, open_store
from runs.errors import InputError
from runs.jobs import execute
from runs.loaded import LoadedModel
from runs.loading import load_model, read_shape
from runs.points import choose_points
from runs.products.base import Spec
from runs.recipe import load_recipe
from runs.tables import CaptureTable
from runs.vision.adapters import adapter_of
from runs.visits import VISITS
from runs.visits.modality_patching import SITES, choose_pairs
from runs.visits.modality_steering import pools
from tests.runs.scene_sets import COLOURS, Shown, hand_made, scene_set
from tests.runs.vision_zoo import save_tiny

PATCHING, STEERING = VISITS["modality_patching"], VISITS["modality_steering"]


@pytest.fixture(scope="module", params=["SmolVLM", "Qwen2.5-VL"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(request.param, tmp_path_factory.mktemp("cause") / "step0")


def spec_of(folder: Path, scenes: Shown, **capture: Any) -> Spec:
    inputs, shape = scene_set(scenes), read_shape(folder)
    table = CaptureTable.model_validate({"block": 7} | capture)
    return Spec(inputs, choose_points(inputs), shape, table, shape.vocabulary, tokenizer=folder)


def part_of(scenes: Shown, rows: Any) -> Shown:
    return Shown(scenes.cases.part(np.flatnonzero(rows)), scenes.images)


def patched(folder: Path, scenes: Shown, **capture: Any) -> xr.Dataset:
    spec = spec_of(folder, scenes, modality_patching={"pairs": 3, **capture})
    found = PATCHING.function(load_model(folder), spec)
    layout = PATCHING.layout(spec)
    assert {n: (a.dims, a.shape, a.dtype) for n, a in layout.items()} == {
        str(n): (a.dims, a.shape, str(a.dtype)) for n, a in found.items()
    }
    return found.assign_coords(PATCHING.coordinates(spec))


def near(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, np.broadcast_to(wanted, got.shape), atol=2e-5)


def test_versions_that_differ_in_the_image(folder: Path) -> None:
    scenes = hand_made()
    found = patched(folder, part_of(scenes, scenes.cases.text_tier == 0))
    donor, receiver = found["donor"].values, found["receiver"].values
    assert (np.abs(donor - receiver) > 1e-3).all()
    near(donor[::-1], receiver)  # the one direction's donor is the other's receiver
    of = found["patched"].transpose("site", "layer", "direction", "pair").sel
    near(of(site="sequence").values, donor)
    near(of(site="answer", layer=3).values, donor)
    near(of(site="answer", layer=0).values, receiver)  # the same last word
    near(of(site="image", layer=0).values, donor)  # all that differs before the first block
    near(of(site="text", layer=0).values, receiver)
    near(of(site=["image", "text"], layer=3).values, receiver)  # nobody reads them any more
    between = of(site="answer", layer=[1, 2]).values
    assert (np.abs(between - donor) > 1e-4).any()
    assert (np.abs(between - receiver) > 1e-4).any()


def test_versions_that_differ_in_the_text(folder: Path) -> None:
    scenes = hand_made()
    found = patched(folder, part_of(scenes, scenes.cases.visual_tier == 0))
    donor, receiver = found["donor"].values, found["receiver"].values
    of = found["patched"].transpose("site", "layer", "direction", "pair").sel
    near(of(site="image", layer=0).values, receiver)
    near(of(site="answer", layer=3).values, donor)
    # Texts of other lengths: what the longer one has before is not carried over.
    assert np.isfinite(found["patched"].values).all()


def test_patching_does_what_a_hook_by_hand_does(folder: Path) -> None:
    scenes = hand_made()
    found = patched(folder, scenes)
    loaded = load_model(folder)
    adapter, cases = adapter_of(loaded, folder), scenes.cases
    pair = choose_pairs(cases, pairs=3, seed=0)[0]
    assert cases.text_tier[pair].tolist() == [0, 1]
    assert cases.visual_tier[pair].tolist() == [1, 0]
    inputs = [
        adapter.inputs(
            [f"{cases.text[i]} {cases.question[i]}"], [scenes.image(int(cases.image[i]))]
        )
        for i in pair
    ]
    donor = adapter.final_states(inputs[0])[2, 0]

    def hook(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, -1] = donor
        return output

    handle = loaded.blocks[1].register_forward_hook(hook)
    logits = adapter.final_logits(adapter.final_states(inputs[1])[-1])[0]
    handle.remove()
    tokens = [
        adapter.first_token(str(said[pair[0]])) for said in (cases.answer_text, cases.answer_image)
    ]
    wanted = float(logits[tokens[0]] - logits[tokens[1]])
    got = found["patched"].sel(site="answer", layer=2).values[0, 0]
    np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_pairs_are_the_easiest_of_their_group() -> None:
    cases = hand_made().cases
    irrelevant = replace(cases, kind=np.where(cases.group == 0, "irrelevant_text", cases.kind))
    pairs = choose_pairs(irrelevant, pairs=100, seed=3)
    assert sorted(irrelevant.group[pairs[:, 0]]) == list(range(1, 8))
    np.testing.assert_array_equal(irrelevant.group[pairs[:, 0]], irrelevant.group[pairs[:, 1]])
    other = replace(cases, answer_text=np.where(cases.text_tier == 0, "pink", cases.answer_text))
    assert len(choose_pairs(other, pairs=9, seed=0)) == 0
    flat = replace(cases, text_tier=cases.text_tier * 0, visual_tier=cases.visual_tier * 0)
    assert choose_pairs(flat, pairs=9, seed=0).shape == (0, 2)


def test_a_set_without_tiers_is_refused(folder: Path) -> None:
    scenes = hand_made()
    flat = part_of(scenes, (scenes.cases.text_tier == 0) & (scenes.cases.visual_tier == 0))
    with pytest.raises(InputError, match=r"0 groups have any.*add groups"):
        PATCHING.layout(spec_of(folder, flat))
    with pytest.raises(InputError, match=r"there is no layer 9; the model has 3"):
        STEERING.layout(spec_of(folder, scenes, modality_steering={"layers": [1, 9]}))
    kinds = np.full(len(scenes.cases), "agreement")
    agreeing = Shown(replace(scenes.cases, kind=kinds), scenes.images)
    with pytest.raises(InputError, match=r"too few; add groups"):
        STEERING.layout(spec_of(folder, agreeing))


# Steering: a model whose only words are the colours, and cases it solves by construction.


def opinionated(folder: Path, seed: int = 8) -> LoadedModel:
    loaded = load_model(folder)
    tokens = [adapter_of(loaded, folder).first_token(word) for word in COLOURS]
    with torch.no_grad():
        head = loaded.model.lm_head.weight
        rows = torch.randn((len(COLOURS), head.shape[1]), generator=torch.manual_seed(seed))
        head.zero_()
        head[tokens] = rows
    return loaded


def solved(loaded: LoadedModel, folder: Path, groups: int = 48) -> Shown:
    """Cases whose answers are what the model gives for the image and for the text alone."""
    scenes = hand_made(groups)
    scenes = part_of(scenes, scenes.cases.subset == "colour")
    cases = scenes.cases
    spec = spec_of(folder, scenes)
    found = VISITS["answers"].function(loaded, spec)["candidate_logits"].values[:, -1].argmax(-1)
    words = np.array(COLOURS)
    cases = replace(cases, answer_image=words[found[0]], answer_text=words[found[1]])
    return part_of(Shown(cases, scenes.images), found[0] != found[1])


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("SmolVLM", tmp_path_factory.mktemp("steered") / "step0")


def test_steering_moves_answers_as_it_says(smol: Path) -> None:
    loaded = opinionated(smol)
    scenes = solved(loaded, smol)
    cases = scenes.cases
    table = {"strengths": [-4.0, 0.0, 4.0], "cases": 9, "controls": 2, "layers": [1, 3]}
    spec = spec_of(smol, scenes, modality_steering=table)
    found, layout = STEERING.function(loaded, spec), STEERING.layout(spec)
    assert {n: (a.dims, a.shape, a.dtype) for n, a in layout.items()} == {
        str(n): (a.dims, a.shape, str(a.dtype)) for n, a in found.items()
    }
    fitted, held_out = pools(cases, spec.inputs.fold, pool=256, seed=0)
    rows = found["steered_sample"].values
    assert set(rows) <= set(held_out)
    assert len(rows) == 9
    # What each case answers, read apart; the direction at the last block, and what it must do there.
    answers, columns = VISITS["answers"].function(loaded, spec), VISITS["answers"].coordinates(spec)
    logits = answers["candidate_logits"].values[2, -1]
    text, image = (columns[f"{name}_candidate"][1] for name in ("text", "image"))
    top = logits.argmax(-1)
    known = [i for i in fitted if top[i] in (text[i], image[i])]
    assert int(found["fitted_on"]) == len(known)
    adapter = adapter_of(loaded, smol)
    states = np.stack([last_block(adapter, scenes, i) for i in range(len(cases))])
    follows = np.array([top[i] == text[i] for i in known])
    assert 0 < follows.sum() < len(follows)
    direction = states[known][follows].mean(0) - states[known][~follows].mean(0)
    for number, strength in enumerate(table["strengths"]):
        pushed = torch.tensor(states[rows] + strength * direction, dtype=torch.float32)
        out = adapter.lens_logits(pushed).numpy()
        token, each = columns["candidate_token"][1][rows], np.arange(len(rows))
        two = np.stack([token[each, text[rows]], token[each, image[rows]]])
        wanted = out[each, two[0]] - out[each, two[1]]
        got = found["difference"].values[1, 0, number]
        np.testing.assert_allclose(got, wanted, atol=1e-3, rtol=1e-3)
        other = (out.argmax(-1) != two).all(0)
        np.testing.assert_array_equal(found["other"].values[1, 0, number], other)
    # Strength 0 changes nothing, whatever the direction and the layer.
    plain = logits[rows, text[rows]] - logits[rows, image[rows]]
    near(found["difference"].values[:, :, 1], plain)
    assert np.ptp(found["difference"].values[1, 1:, 2], axis=0).max() > 1e-3  # two random ones
    lengths = np.diff(np.abs(found["delta"].values - centre(found)))
    assert (lengths >= -1e-12).all()


def last_block(adapter: Any, scenes: Shown, sample: int) -> np.ndarray:
    cases = scenes.cases
    words = f"{cases.text[sample]} {cases.question[sample]}"
    inputs = adapter.inputs([words], [scenes.image(int(cases.image[sample]))])
    state: np.ndarray = adapter.final_states(inputs)[3, 0].double().numpy()
    return state


def centre(found: xr.Dataset) -> float:
    value = float(found["balance_point"])
    return 0.0 if np.isnan(value) else value


def test_a_model_that_solves_nothing_is_not_steered(folder: Path) -> None:
    spec = spec_of(folder, hand_made(), modality_steering={"cases": 4})
    found = STEERING.function(load_model(folder), spec)
    assert int(found["fitted_on"]) == 0
    assert np.isnan(found["difference"].values).all()
    assert (found["steered_sample"].values == -1).all()


def test_no_group_is_fitted_and_steered() -> None:
    cases: Cases = hand_made(24).cases
    fold = scene_set(hand_made(24)).fold
    fitted, held_out = pools(cases, fold, pool=30, seed=1)
    assert len(fitted) == len(held_out) == 30
    assert not set(cases.group[fitted]) & set(cases.group[held_out])


def test_the_recipe_says_when_strengths_are_unordered() -> None:
    with pytest.raises(ValueError, match="strengths must rise"):
        CaptureTable.model_validate({"modality_steering": {"strengths": [1.0, 0.0]}})
    assert SITES == ("answer", "image", "text", "sequence")


def test_a_store_of_causes(tmp_path: Path, smol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = solved(opinionated(smol), smol)
    save_tiny("SmolVLM", tmp_path / "series" / "step4")
    opinionated(smol).model.save_pretrained(tmp_path / "series" / "step4")
    (tmp_path / "recipe.toml").write_text(
        RECIPE.format(series=json.dumps(str(tmp_path / "series")))
    )
    monkeypatch.setattr(runs.sets, "build_set", lambda *_: scene_set(scenes))
    tree = open_store(execute(load_recipe(tmp_path / "recipe.toml")).store)
    recovery = measure(tree, "modality_recovery")
    assert dict(recovery.sizes) == {"checkpoint": 1, "direction": 2, "site": 4, "layer": 4}
    raw = tree["sets/scenes/modality_patching"].to_dataset().isel(checkpoint=0, direction=0)
    one = raw.sel(site="answer", layer=2)
    moved = float((one["patched"] - one["receiver"]).sum() / (one["donor"] - one["receiver"]).sum())
    got = recovery.isel(checkpoint=0, direction=0).sel(site="answer", layer=2)
    np.testing.assert_allclose(float(got), moved, rtol=1e-5)
    np.testing.assert_allclose(recovery.sel(site="answer", layer=3), 1, atol=1e-3)
    effect = measure(tree, "modality_patching_effect").isel(checkpoint=0, direction=0)
    change = float((one["patched"] - one["receiver"]).mean())
    np.testing.assert_allclose(float(effect.sel(site="answer", layer=2)), change, rtol=1e-5)
    following = measure(tree, "steered_following").isel(checkpoint=0)
    assert following.sel(layer=3)["direction"].values.tolist() == ["fitted", "random 1"]
    pushed = tree["sets/scenes/modality_steering"].to_dataset().isel(checkpoint=0)
    for layer, direction, strength in ((1, "fitted", 2.0), (3, "random 1", -2.0)):
        place = {"layer": layer, "direction": direction, "strength": strength}
        values = pushed["difference"].sel(place).values
        kept = values[pushed["other"].sel(place).values == 0]
        np.testing.assert_allclose(float(following.sel(place)), (kept > 0).mean())
        other = measure(tree, "steered_other").isel(checkpoint=0).sel(place)
        np.testing.assert_allclose(float(other), np.nanmean(pushed["other"].sel(place)))
    spread = measure(tree, "steered_range").isel(checkpoint=0)
    assert set(spread.dims) == {"layer", "direction"}
    assert float(np.abs(spread).max()) <= 1


RECIPE = """
name = "causes"
store = "causes.zarr"
[series]
path = {series}
tokens_per_step = 16
[inputs.scenes]
path = "none.txt"
mode = "document"
length = 6
[capture]
products = ["hidden"]
visits = ["modality_patching", "modality_steering"]
block = 16
[capture.modality_patching]
pairs = 4
[capture.modality_steering]
strengths = [-2.0, 0.0, 2.0]
layers = [1, 3]
cases = 8
controls = 1
[measures]
names = []
"""
