"""Maps of word classes from a store: the same places as the kernel's, of evenly spaced samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from figures import draw
from geometry.scaling import scale
from runs import measure
from runs.jobs import execute
from runs.recipe import load_recipe
from runs.rows.word_class_map import MEMBERS, evenly_chosen
from runs.store import open_store
from tests.runs.brown_like import write_brown

CLASSES = ["NOUN", "VERB", "ADP", "DET"]


def test_samples_are_spaced_through_the_set() -> None:
    labels = np.array(["a", "b"] * 5 + ["c"])
    found = evenly_chosen(labels, ("b", "a", "c", "d"), members=3)
    np.testing.assert_array_equal(found, [[1, 5, 9], [0, 4, 8], [10, -1, -1], [-1, -1, -1]])
    everything = evenly_chosen(labels, ("a",), members=9)
    np.testing.assert_array_equal(everything[0], [0, 2, 4, 6, 8, -1, -1, -1, -1])


def test_a_store_s_map_is_the_kernel_s(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    brown = write_brown(tmp_path / "brown")
    words = (
        f'[inputs.words]\nmode = "words"\npath = {json.dumps(str(brown))}\nper_class = 9\n'
        f"classes = {json.dumps(CLASSES)}\nshuffle_seed = 4"
    )
    recipe = load_recipe(
        write_recipe(
            inputs=words,
            capture='products = ["hidden"]\n[capture.hidden]\nother_points = 64',
            measures='names = ["word_class_map"]',
        )
    )
    tree = open_store(execute(recipe).store)
    found = measure(tree, "word_class_map").compute()
    assert found.attrs["set"] == "words"  # the set of speeches has no classes
    node = tree["sets/words"]
    labels = np.array(node["inputs"]["word_class"].values.tolist())
    hidden = node["hidden"]["hidden"]
    assert sorted(found["word_class"].values.astype(str)) == sorted(CLASSES)
    rows = np.concatenate([np.flatnonzero(labels == name) for name in CLASSES])
    for layer in hidden["layer"].values:
        states = hidden.isel(checkpoint=-1).sel(layer=layer).values[rows]
        wanted = scale(states)
        own = found.isel(checkpoint=-1).sel(layer=layer, word_class=CLASSES)
        assert np.isfinite(own.values[:, :9]).all()
        assert np.isnan(own.values[:, 9:MEMBERS]).all()
        places = own.values[:, :9].reshape(-1, 2)
        gaps = np.linalg.norm(places[:, None] - places, axis=-1)
        kept = np.linalg.norm(wanted.positions[:, None] - wanted.positions, axis=-1)
        np.testing.assert_allclose(gaps, kept, atol=1e-6 * kept.max())
        stress = own["stress"].values[:, :9]
        np.testing.assert_allclose(stress, wanted.stress, rtol=1e-6)
    figure, table = draw(tree, "word_class_maps")
    assert table["place"].sizes["word_class"] == 4
    assert any(axes.get_title(loc="left") == "embedding" for axes in figure.axes)


@pytest.mark.parametrize("convention", ["smacof", "tsne"])
def test_other_methods_are_rows_of_their_own(convention: str) -> None:
    from runs.measures import find_row

    row = find_row("word_class_map", convention)
    assert not row.default
    rng = np.random.default_rng(0)
    labels = np.array(CLASSES * 10)
    x = rng.standard_normal((40, 8)) + 4 * rng.standard_normal((4, 8))[np.arange(40) % 4]
    place, stress = row.function(x, 40, np.ones(40, bool), np.arange(40), labels)
    assert place.shape == stress.shape == (4, MEMBERS, 2)
    assert np.isfinite(place).sum() == 40 * 2
    assert 0 < np.nanmax(stress) == np.nanmin(stress) < 0.6
