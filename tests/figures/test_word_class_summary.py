"""What the page says of word classes."""

from __future__ import annotations

import xarray as xr

from figures.report import render
from figures.word_class_steps import steps_by_line
from figures.word_class_summary import class_sentences

PLACE = "measures/word_class_separation/one_vs_rest/sotu"


def test_each_class_has_its_step_in_order(tree: xr.DataTree) -> None:
    (told,) = class_sentences(tree, {"main": "the run"})["the run"]
    found = steps_by_line(tree[PLACE].to_dataset().isel(layer=-1)).isel(training_line=0)
    det = found.sel(word_class="DET")
    start = f"DET from step {int(det['first'])} [{int(det['lower'])}, {int(det['upper'])}], NOUN"
    assert f"how far apart it ends: {start} from step " in told
    assert told.endswith(", no rise: CONJ.")
    assert "NUM" not in told


def test_a_single_checkpoint_has_its_best_and_worst(lone: xr.DataTree) -> None:
    (told,) = class_sentences(lone, {})["main"]
    value = lone[PLACE]["value"].isel(checkpoint=0, layer=-1).dropna("word_class")
    order = [str(value["word_class"].values[i]) for i in value.values.argsort()[::-1]]
    assert f"by chance): {order[0]} {float(value.max()):.2f}, " in told
    assert told.endswith(f"{order[-1]} {float(value.min()):.2f}.")
    assert ", …, " in told


def test_a_store_without_words_says_nothing(tree: xr.DataTree) -> None:
    part = tree.copy()
    del part["measures"]["word_class_separation"]
    assert class_sentences(part, {}) == {}


def test_it_stands_in_the_report(tree: xr.DataTree, only) -> None:
    kept = only(tree, "word_class_separation", "rankme", "alpha_req", "loss")
    page = render(kept, commands=[], versions={})
    assert "how far apart it ends: DET from step" in page
