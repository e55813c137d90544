"""The visit `answers` on tiny random models, against the model asked one case at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import entropy

import runs.sets
from probes.answer_statistics import answer_statistics
from runs import open_store
from runs.attention_tap import attention_as
from runs.errors import InputError
from runs.jobs import execute
from runs.loading import load_model, read_shape
from runs.points import choose_points
from runs.products.base import Spec
from runs.recipe import load_recipe
from runs.tables import CaptureTable
from runs.vision.adapters import adapter_of
from runs.vision.asking import questions
from runs.visits import VISITS
from tests.runs.scene_sets import COLOURS, SHAPES, Shown, hand_made, scene_set
from tests.runs.vision_zoo import save_tiny

ROW = VISITS["answers"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("SmolVLM", tmp_path_factory.mktemp("seeing") / "step0")


@pytest.fixture(scope="module")
def scenes() -> Shown:
    return hand_made()


def spec_of(folder: Path, scenes: Shown, **capture: Any) -> Spec:
    inputs, shape = scene_set(scenes), read_shape(folder)
    table = CaptureTable.model_validate({"block": 5} | capture)
    points = choose_points(inputs)
    return Spec(inputs, points, shape, table, shape.vocabulary, tokenizer=folder)


@pytest.mark.parametrize("batch", [1, 5])
def test_answers_are_those_of_the_model_asked_case_by_case(
    folder: Path, scenes: Shown, batch: int
) -> None:
    spec, loaded = spec_of(folder, scenes, micro_batch=batch), load_model(folder)
    found = ROW.function(loaded, spec)
    layout, columns = ROW.layout(spec), ROW.coordinates(spec)
    assert {n: (a.dims, a.shape, a.dtype) for n, a in layout.items()} == {
        str(n): (a.dims, a.shape, str(a.dtype)) for n, a in found.items()
    }
    adapter, cases = adapter_of(loaded, folder), scenes.cases
    token = columns["candidate_token"][1]
    for sample in (0, 5, 11, 31):
        words = SHAPES if cases.subset[sample] == "shape" else COLOURS
        question, text = str(cases.question[sample]), str(cases.text[sample])
        image = [scenes.image(int(cases.image[sample]))]
        asked = ((question, image), (f"{text} {question}", None), (f"{text} {question}", image))
        for row, (said, shown) in enumerate(asked):
            inputs = adapter.inputs([said], shown)
            with torch.inference_mode(), attention_as(loaded.model, "eager"):
                own = loaded.model(**inputs, output_hidden_states=True)
                norm, head = loaded.final_norm, loaded.model.lm_head
                lens = [head(norm(own.hidden_states[i][:, -1])) for i in range(3)]
            logits = torch.cat([*lens, own.logits[:, -1]])[:, : spec.vocabulary].double().numpy()
            here = found.isel(condition=row, sample=sample, layer=[0, 1, 2, 4])
            ids = [adapter.first_token(word) for word in words]
            assert token[sample, : len(ids)].tolist() == ids
            near = {"atol": 1e-4, "rtol": 1e-4}
            values = here["candidate_logits"].values
            np.testing.assert_allclose(values[:, : len(ids)], logits[:, ids], **near)
            p = np.exp(log_softmax(logits, axis=1))
            np.testing.assert_allclose(here["entropy"], entropy(p, axis=1), **near)
            np.testing.assert_array_equal(here["top1"], p.argmax(1))
            np.testing.assert_allclose(here["top1_probability"], p.max(1), **near)
            two = np.sort(p, axis=1)[:, -2:]
            np.testing.assert_allclose(here["margin"], two[:, 1] - two[:, 0], **near)
            shares = np.exp(logits - here["log_partition"].values[:, None])
            np.testing.assert_allclose(shares.sum(1), 1, atol=1e-4)
    assert np.isnan(found["candidate_logits"].values[:, :, cases.subset == "shape", 3:]).all()
    assert (token[cases.subset == "shape", 3] == -1).all()


def test_columns_say_which_answer_is_whose(folder: Path, scenes: Shown) -> None:
    columns, cases = ROW.coordinates(spec_of(folder, scenes)), scenes.cases
    for name, said in (("image", cases.answer_image), ("text", cases.answer_text)):
        places = columns[f"{name}_candidate"][1]
        words = [cases.candidates[s][i] for s, i in zip(cases.subset, places, strict=True)]
        assert words == said.tolist()


def test_a_distinct_input_is_asked_once(scenes: Shown) -> None:
    cases = scenes.cases
    image, text, both = (questions(cases, c) for c in ("image", "text", "both"))
    assert (len(image.texts), len(both.texts)) == (16, 32)
    assert image.images == sorted(set(cases.image.tolist()))
    assert text.images is None
    said = {f"{t} {q}" for t, q in zip(cases.text, cases.question, strict=True)}
    assert set(text.texts) == said
    assert len(text.texts) == len(said) < 32
    again = [text.texts[row] for row in text.row]
    assert again == [f"{t} {q}" for t, q in zip(cases.text, cases.question, strict=True)]


def test_images_are_rendered_once_a_batch(folder: Path, scenes: Shown) -> None:
    asked: list[int] = []

    class Counting(Shown):
        def image(self, number: int) -> Any:
            asked.append(number)
            return super().image(number)

    spec = spec_of(folder, Counting(scenes.cases, scenes.images), micro_batch=4)
    ROW.function(load_model(folder), spec)
    assert len(asked) == 2 * 16  # alone, and with both of its texts in one batch of four


def test_statistics_of_known_distributions() -> None:
    even = answer_statistics(torch.zeros(8))
    assert float(even["entropy"]) == pytest.approx(np.log(8))
    assert float(even["margin"]) == 0
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]).double()) + 3
    found = answer_statistics(logits)
    np.testing.assert_allclose(found["margin"], [0.25, 0.5])
    np.testing.assert_allclose(found["log_partition"], 3)
    np.testing.assert_allclose(found["entropy"][0], 1.5 * np.log(2))
    np.testing.assert_array_equal(found["top1"], [0, 2])
    padded = torch.cat([logits, torch.full((2, 2), 50.0)], dim=1)
    again = answer_statistics(padded, vocabulary=3)
    np.testing.assert_array_equal(again["entropy"], found["entropy"])
    ruled_out = answer_statistics(torch.tensor([0.0, 0.0, -torch.inf]))
    assert float(ruled_out["entropy"]) == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match="no margin"):
        answer_statistics(logits, vocabulary=1)


def test_what_cannot_be_asked_is_refused(folder: Path, scenes: Shown) -> None:
    spec = spec_of(folder, scenes)
    with pytest.raises(InputError, match=r"inputs\.scenes\.mode.*set mode"):
        ROW.layout(replace(spec, inputs=replace(spec.inputs, scenes=None)))
    with pytest.raises(InputError, match=r"capture\.visits.*reads none"):
        ROW.layout(replace(spec, shape=replace(spec.shape, reads_images=False)))
    with pytest.raises(InputError, match=r"capture\.backend"):
        ROW.layout(spec_of(folder, scenes, backend="nnsight"))
    strange = replace(scenes.cases, answer_text=np.full(len(scenes.cases), "purple"))
    with pytest.raises(InputError, match="'purple' is not among the candidates"):
        ROW.layout(spec_of(folder, Shown(strange, scenes.images)))


def test_a_store_of_answers(tmp_path: Path, scenes: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (0, 4):
        save_tiny("SmolVLM", tmp_path / "series" / f"step{step}", seed=step)
    (tmp_path / "recipe.toml").write_text(
        f"""
name = "seeing"
store = "seeing.zarr"
[series]
path = {json.dumps(str(tmp_path / "series"))}
tokens_per_step = 16
[inputs.scenes]
path = "none.txt"
mode = "document"
length = 6
[capture]
products = ["hidden", "attention"]
visits = ["answers"]
block = 4
[measures]
names = []
"""
    )
    monkeypatch.setattr(runs.sets, "build_set", lambda *_: scene_set(scenes))
    tree = open_store(execute(load_recipe(tmp_path / "recipe.toml")).store)
    found = tree["sets/scenes/answers"].to_dataset()
    assert found.sizes["checkpoint"] == 2
    assert found["condition"].values.tolist() == ["image", "text", "both"]
    np.testing.assert_array_equal(found["visual_tier"], scenes.cases.visual_tier)
    np.testing.assert_array_equal(found["typicality"], scenes.cases.typicality)
    assert found["candidate_token"].dims == ("sample", "candidate")
    assert found["candidate_token"].dtype == np.int32
    assert bool(np.isfinite(found["entropy"]).all())
    folder = tmp_path / "series" / "step4"
    spec = spec_of(folder, scenes)
    direct = ROW.function(load_model(folder), replace(spec, vocabulary=spec.vocabulary))
    last = found.isel(checkpoint=1)
    np.testing.assert_allclose(last["entropy"], direct["entropy"], atol=1e-5)
