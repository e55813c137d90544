"""Rows of word classes against the kernels on the states themselves, from a store made like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geometry.separation import gdv, gdv_bound
from probes.classifiers import balanced_accuracy, document_folds, unseen
from probes.clustering import clusters, matched_confusion
from probes.control_tasks import control_labels
from probes.word_baselines import by_counting
from runs import measure, open_store
from runs.catalogue import MEASURES
from runs.errors import InputError
from runs.jobs import execute
from runs.measures import keep, measure_dataset, sets_for
from runs.recipe import load_recipe
from runs.rows import word_baselines, word_classes
from runs.rows.word_cells import Kept
from tests.runs.conftest import speeches

CLASSES = ("DET", "NOUN", "VERB")
LABELS = ("word_class", "word_class_9", "word_class_8", "word", "word_9", "word_8", "document")
ROWS = (*word_classes.ROWS, *word_baselines.ROWS)


def windows() -> list[dict[str, str]]:
    """Texts whose last word has to do with the class of the next; classes equally many."""
    words = ["the", "union", "has", "trade", "a", "great"]
    generator = np.random.default_rng(3)
    rows = []
    for i, text in enumerate(speeches(150, 8)):
        number = i % 3
        near = words[2 * number + int(generator.integers(2))]
        seen = near if generator.random() < 0.8 else words[int(generator.integers(6))]
        eight = CLASSES[int(generator.integers(3))]
        rows.append(
            {
                "text": f"{text} {seen}",
                "word_class": CLASSES[number],
                "word_class_9": CLASSES[words.index(seen) // 2],
                "word_class_8": eight,
                "word": f"w{number}{int(generator.integers(4))}",
                "word_9": seen,
                "word_8": eight.lower(),
                "document": f"d{i // 3}",
            }
        )
    return rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, series_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("words")
    (folder / "windows.jsonl").write_text("\n".join(json.dumps(row) for row in windows()))
    (folder / "recipe.toml").write_text(f"""
name = "words"
store = "words.zarr"
[series]
path = {json.dumps(str(series_folder))}
tokens_per_step = 256
steps = [16]
[inputs.brown]
path = "windows.jsonl"
mode = "document"
length = 32
min_length = 2
shuffle_seed = 1
group = "document"
labels = {json.dumps(list(LABELS))}
[inputs.plain]
path = "windows.jsonl"
mode = "document"
length = 32
min_length = 2
shuffle_seed = 1
[capture]
products = ["hidden"]
block = 8
[capture.hidden]
extra_positions = 1
[measures]
names = []
""")
    return execute(load_recipe(folder / "recipe.toml")).store


@pytest.fixture(scope="module")
def tree(store: Path) -> xr.DataTree:
    return open_store(store)


@pytest.fixture(scope="module")
def cell(tree: xr.DataTree) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """States of the last checkpoint's third layer, and the labels of their samples."""
    last = tree["sets/brown/points"]["last"].values
    states = tree["sets/brown/hidden"]["hidden"].values[-1, 2, last]
    inputs = tree["sets/brown/inputs"].to_dataset()
    return states, {name: inputs[name].values for name in (*LABELS, "group")}


def here(tree: xr.DataTree, name: str, convention: str) -> xr.Dataset:
    found = measure_dataset(tree, MEASURES[name, convention], "brown")
    return found.isel(checkpoint=-1).sel(layer=2).compute()


def test_a_set_without_word_classes_does_not_offer_the_rows(tree: xr.DataTree) -> None:
    for row in ROWS:
        assert sets_for(tree, row) == ["brown"]
    with pytest.raises(InputError) as error:
        measure(tree, "word_class_selectivity", set="plain")
    assert str(error.value) == (
        "measure `word_class_selectivity` reads word_class, word, which set `plain` of this store does "
        'not have; give the set such labels, as `mode = "words"` has them, and run again'
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}-{row.convention}")
def test_every_row_goes_into_the_store_and_back(store: Path, tree: xr.DataTree, row) -> None:
    found = keep(store, row, measure_dataset(tree, row, "brown"))
    assert set(row.outputs) == set(found.data_vars)
    assert found["value"].dims == ("checkpoint", "layer", *row.core)
    assert np.isfinite(found["value"]).all()
    if "lower" in row.outputs:
        assert (found["lower"] <= found["value"]).all()
        assert (found["value"] <= found["upper"]).all()
        assert row.interval
    if "p_value" in row.outputs:
        assert ((found["p_value"] >= 0.01) & (found["p_value"] <= 1)).all()
    again = open_store(store)[f"measures/{row.name}/{row.convention}/brown"].to_dataset()
    np.testing.assert_array_equal(again["value"], found["value"])
    for dim in row.core:
        assert again[dim].values.tolist() == list(CLASSES)


def test_rows_are_the_kernels_of_the_last_tokens(tree: xr.DataTree, cell) -> None:
    x, labels = cell
    names, group = labels["word_class"], labels["group"]
    value = gdv(x, names)
    assert here(tree, "gdv", "word_10")["value"] == pytest.approx(value, rel=1e-6)
    scaled = here(tree, "gdv_scaled", "word_10")["value"]
    assert scaled == pytest.approx(value / -gdv_bound(3), rel=1e-6)
    found = unseen(x, names, group)
    wanted = balanced_accuracy(found.predicted, found.truth).value
    probe = here(tree, "word_class_probe", "linear")
    assert probe["value"] == pytest.approx(wanted)
    assert probe["value"] > 0.5  # 0.8 + 0.2/3 can be known from the last word; 1/3 by chance
    assert probe["p_value"] == pytest.approx(0.01)
    random = control_labels(labels["word_9"], names)
    other = unseen(x, random, group, strengths=found.strengths)
    control = balanced_accuracy(other.predicted, other.truth).value
    selective = here(tree, "word_class_selectivity", "word_9")
    assert selective["control"] == pytest.approx(control)
    assert selective["value"] == pytest.approx(wanted - control)
    # Classes of words 10 and 9 differ, and so do the rows about them.
    assert here(tree, "gdv", "word_9")["value"] != pytest.approx(value, rel=1e-3)


def test_baselines_do_not_depend_on_the_states_and_the_gain_is_paired(
    tree: xr.DataTree, cell
) -> None:
    labels = cell[1]
    names, group = labels["word_class"], labels["group"]
    truth = np.unique(names, return_inverse=True)[1]
    fold = document_folds(group)
    scores = {}
    for name, known in word_baselines.BASELINES.items():
        found = measure(tree, "word_class_baseline", convention=name)
        assert found.dims == ("checkpoint", "layer")
        assert np.ptp(found.values) == 0
        predicted = by_counting(names, fold, *(labels[k] for k in known))
        scores[name] = balanced_accuracy(predicted, truth).value
        assert float(found[0, 0]) == pytest.approx(scores[name])
    assert scores["class_given_word_9"] > 0.6 > scores["majority"]
    gain = here(tree, "word_class_gain", "best_baseline")
    assert gain["baseline"] == pytest.approx(max(scores.values()))
    probe = here(tree, "word_class_probe", "linear")["value"]
    assert gain["value"] == pytest.approx(float(probe) - max(scores.values()))


def test_confusion_has_a_row_a_class(tree: xr.DataTree, cell) -> None:
    x, labels = cell
    found = here(tree, "word_class_confusion", "kmeans")["value"]
    np.testing.assert_allclose(found.sum("cluster"), 1.0)
    wanted = matched_confusion(clusters(x, 3), labels["word_class"])
    assert np.trace(found.values) / 3 == pytest.approx(wanted.matched)


def test_states_that_are_no_numbers_give_none(tree: xr.DataTree) -> None:
    last = tree["sets/brown/points"]["last"].values
    labels = [
        [tree["sets/brown/points"][read.variable.split("/")[1]].values for read in row.reads[2:]]
        for row in ROWS
    ]
    x = np.full((len(last), 4), np.nan, np.float32)
    for row, columns in zip(ROWS, labels, strict=True):
        if row.name == "word_class_baseline":  # knows nothing of states
            continue
        found = row.function(x, len(last), *columns)
        first = found[0] if isinstance(found, tuple) else found
        assert np.isnan(first).all(), row.name


def test_too_few_documents_say_nothing() -> None:
    rng = np.random.default_rng(0)
    x, last = rng.standard_normal((12, 4)), np.ones(12, bool)
    group = np.repeat(np.arange(4), 3)
    names = np.array(["A", "B", "C"] * 4)
    for row in ROWS:
        found = row.function(x, 12, last, group, *[names] * (len(row.reads) - 4))
        first = found[0] if isinstance(found, tuple) else found
        assert np.isnan(first).all(), row.name


def test_p_values_of_probes_and_clusters_are_not_small_by_chance() -> None:
    """Noise, and labels that lie in documents: small p-values as rarely as they say."""
    chosen = [
        MEASURES["word_class_probe", "linear"],
        MEASURES["word_class_clusters", "kmeans_nmi"],
    ]
    for row in chosen:
        found = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            group = np.repeat(np.arange(20), 6)
            x = rng.standard_normal((120, 4)) + rng.standard_normal((20, 4))[group]
            names = np.where(rng.random(120) < 0.7, group % 2, rng.integers(0, 2, 120)).astype(str)
            cell = row.function(x, 120, np.ones(120, bool), group, names)
            found.append(cell[row.outputs.index("p_value")])
        # Above a half: few values, and so ties, which count; and documents that favour a class.
        assert 0.45 < np.mean(found) < 0.85
        assert np.mean(np.array(found) <= 0.1) <= 0.15


def test_what_several_rows_ask_for_is_computed_once_and_forgotten_in_order() -> None:
    asked = []

    def double(x: np.ndarray, *, by: int) -> np.ndarray:
        asked.append(by)
        return x * by

    kept = Kept(double, 2)
    one, words = np.arange(3), np.array(["a", "b"])
    assert kept(one, by=2).tolist() == [0, 2, 4]
    kept(one, by=2)
    kept(one, by=3)
    assert asked == [2, 3]
    kept(one.astype(np.int32), by=2)  # another dtype is another array
    kept(one, by=2)
    assert asked == [2, 3, 2, 2]
    with pytest.raises(TypeError):
        kept(words)
