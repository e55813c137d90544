"""Rows of modalities in conflict, on answers of a chooser whose balance points are known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import xarray as xr

from probes.modality import REASONS, balance_point, oscillations, relative_uncertainty
from runs.catalogue import MEASURES
from runs.measures import measure, measure_dataset
from runs.rows.modality import ROWS
from tests.runs.modality_chooser import BALANCES, BLOCKS, CANDIDATES, chooser_tree


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return chooser_tree()


@pytest.fixture(scope="module")
def frame(tree):
    """The cases of one checkpoint, each as a dictionary, read without the rows' help."""

    @cache
    def of(checkpoint: int):
        answers = tree["sets/scenes/answers"].to_dataset().isel(checkpoint=checkpoint).load()
        inputs = tree["sets/scenes/inputs"].to_dataset()
        top1 = {c: answers["top1"].sel(condition=c).values for c in ("image", "text", "both")}
        entropy = {c: answers["entropy"].sel(condition=c).values[-1] for c in ("image", "text")}
        columns = {
            name: answers[name].values
            for name in (
                "candidate_token",
                "image_candidate",
                "text_candidate",
                "text_tier",
                "visual_tier",
            )
        }
        kind, group = inputs["kind"].values, inputs["group"].values
        found = []
        for i in range(700):
            token = columns["candidate_token"][i]
            found.append(
                {
                    "kind": str(kind[i]),
                    "group": int(group[i]),
                    "said": {c: int(values[-1, i]) for c, values in top1.items()},
                    "image": int(token[columns["image_candidate"][i]]),
                    "text": int(token[columns["text_candidate"][i]]),
                    "tiers": (int(columns["text_tier"][i]), int(columns["visual_tier"][i])),
                    "entropy": {c: float(values[i]) for c, values in entropy.items()},
                    "lens": top1["both"][1:-1, i],
                }
            )
        return found

    return of


def small(tree: xr.DataTree) -> xr.DataTree:
    """The first 700 cases of one checkpoint."""
    nodes = dict(tree.to_dict())
    for path in ("/sets/scenes/answers", "/sets/scenes/inputs"):
        nodes[path] = nodes[path].isel(sample=slice(700))
    return xr.DataTree.from_dict(nodes)


@pytest.fixture(scope="module")
def few(tree):
    return small(tree)


def solved(cases):
    return [
        case for case in cases
        if case["kind"] == "conflict" and case["said"]["image"] == case["image"]
        and case["said"]["text"] == case["text"]
    ]  # fmt: skip


def test_every_row_gives_its_dims_and_unit_range(tree):
    for row in ROWS:
        found = measure(tree, row.name, convention=row.convention).compute()
        assert found.sizes["checkpoint"] == 8
        assert set(row.core) <= set(found.dims)
        assert MEASURES[row.name, row.convention] is row
        assert np.isfinite(found.values).any(), (row.name, row.convention)
        if {"lower", "upper"} <= set(found.coords):
            bounded = found.where(np.isfinite(found["lower"]) & np.isfinite(found["upper"]))
            below = (bounded >= bounded["lower"] - 1e-9) | bounded.isnull()
            assert bool((below & ((bounded <= bounded["upper"] + 1e-9) | bounded.isnull())).all())


def test_following_is_counted_by_hand(few, frame):
    cases = solved(frame(2))
    both = [case["said"]["both"] for case in cases]
    text = sum(b == c["text"] for b, c in zip(both, cases, strict=True))
    vision = sum(b == c["image"] for b, c in zip(both, cases, strict=True))
    found = measure(few, "text_following", convention="solved_both").isel(checkpoint=2).compute()
    assert float(found) == pytest.approx(text / (text + vision))
    assert float(found["other"]) == pytest.approx(1 - (text + vision) / len(cases))
    assert float(found["cases"]) == len(cases)
    tiers = measure(few, "text_following", convention="by_tiers").isel(checkpoint=2).compute()
    one = tiers.sel(text_tier=4, visual_tier=3)
    mine = [
        c for c in cases if c["tiers"] == (4, 3) and c["said"]["both"] in (c["text"], c["image"])
    ]
    assert float(one) == pytest.approx(np.mean([c["said"]["both"] == c["text"] for c in mine]))
    absent = tiers.sel(text_tier=1)
    assert absent.isnull().all()


def test_accuracy_leaves_out_what_does_not_speak_of_the_target(few, frame):
    cases = [c for c in frame(0) if c["kind"] != "irrelevant_text" and c["tiers"][0] == 5]
    wanted = np.mean([c["said"]["text"] == c["text"] for c in cases])
    found = measure(few, "modality_accuracy", convention="text").isel(checkpoint=0).sel(text_tier=5)
    assert float(found) == pytest.approx(wanted)
    cases = [c for c in frame(0) if c["kind"] != "irrelevant_image"]
    wanted = np.mean([c["said"]["image"] == c["image"] for c in cases])
    found = measure(few, "modality_accuracy", convention="image_pooled").isel(checkpoint=0)
    assert float(found) == pytest.approx(wanted)


def test_balance_points_are_the_kernels_and_near_the_choosers(tree, few, frame):
    cases = solved(frame(1))
    delta = relative_uncertainty(
        [c["entropy"]["text"] for c in cases], [c["entropy"]["image"] for c in cases]
    )
    said = [{c["text"]: 1.0, c["image"]: 0.0}.get(c["said"]["both"], np.nan) for c in cases]
    group = [c["group"] for c in cases]
    for method in ("logistic", "isotonic", "binned"):
        wanted = balance_point(delta, said, groups=group, method=method, resamples=299)
        found = measure(few, "balance_point", convention=method).isel(checkpoint=1).compute()
        assert float(found) == pytest.approx(wanted.value)
        assert float(found["lower"]) == pytest.approx(wanted.lower)
        assert float(found["cases"]) == wanted.cases
    found = measure(tree, "balance_point").compute()
    truth = np.concatenate([BALANCES, np.add(BALANCES, 0.2)])
    np.testing.assert_allclose(found, truth, atol=0.15)
    assert (found["reason"] == 0).all()


def test_a_chooser_that_never_follows_the_image_has_no_balance(tree):
    nodes = tree.to_dict()
    answers = nodes["/sets/scenes/answers"].load().copy(deep=True)
    answers["top1"][:, 2, -1] = answers["top1"][:, 1, -1]
    nodes["/sets/scenes/answers"] = answers.chunk({"checkpoint": 1})
    always = xr.DataTree.from_dict(nodes)
    found = measure(always, "balance_point").compute()
    assert found.isnull().all()
    assert {REASONS[int(code)] for code in found["reason"].values} == {"above"}
    assert (found["crossed"] == 0).all()
    near = measure(always, "oscillation", convention="near").compute()
    assert near.isnull().all()
    assert (near["cases"] == 0).all()
    other = measure(always, "oscillation", convention="irrelevant").compute()
    assert np.isfinite(other).all()


def test_oscillations_are_counted_by_hand_and_the_null_is_none(few, frame):
    cases = solved(frame(3))
    place = float(measure(few, "balance_point").isel(checkpoint=3))
    for where in ("near", "clear"):
        counts = []
        for case in cases:
            h = case["entropy"]
            away = abs(float(relative_uncertainty(h["text"], h["image"])) - place)
            if (away <= 0.5) == (where == "near"):
                names = {case["text"]: "text", case["image"]: "vision"}
                counts.append(int(oscillations([names.get(int(t), "other") for t in case["lens"]])))
        found = measure(few, "oscillation", convention=where).isel(checkpoint=3).compute()
        pooled = found.sel(leading="vocabulary", depth="all")
        assert float(pooled) == pytest.approx(np.mean(counts))
        assert float(pooled["cases"]) == len(counts)
        thirds = found.sel(leading="vocabulary", depth=["early", "middle", "late"]).sum("depth")
        assert float(thirds) == pytest.approx(float(pooled))
        assert float(pooled["null"]) < 0.05  # two labels that nobody says
        # The text leads after the second block and what is said from the fourth on.
        assert float(found.sel(leading="vocabulary", depth="early")) == 0
    assert BLOCKS == 6
    assert CANDIDATES == 6


def test_where_an_irrelevant_text_misleads_the_image_must_be_solved(few, frame):
    cases = [
        c for c in frame(0)
        if (c["kind"] == "irrelevant_text" and c["said"]["image"] == c["image"])
        or (c["kind"] == "irrelevant_image" and c["said"]["text"] == c["text"])
    ]  # fmt: skip
    found = measure(few, "oscillation", convention="irrelevant").isel(checkpoint=0)
    assert (found["cases"] == len(cases)).all()


def test_logit_differences_keep_the_layers(tree):
    found = measure(tree, "logit_difference").compute()
    assert found["layer"].values.tolist() == list(range(BLOCKS + 2))
    assert found["layer_name"].values[-1] == "final"
    last, text = found.sel(layer=BLOCKS + 1), found.sel(layer=2)
    assert float(last.isel(delta_bin=1).mean()) > 2  # text easier: its answer leads
    assert float(last.isel(delta_bin=-2).mean()) < -2
    filled = found.sel(layer=2).where(found["cases"].sel(layer=2) > 0)
    assert float(filled.min()) > 2
    np.testing.assert_allclose(text.where(filled.notnull()), filled)


def test_curves_hold_every_case_once(tree):
    total = measure(tree, "balance_point")["cases"].values
    for convention in ("binned", "fixed"):
        found = measure(tree, "following_curve", convention=convention).compute()
        np.testing.assert_array_equal(found["cases"].sum(found.dims[1]), total)
    halves = [
        measure(tree, "following_curve", convention=f"{half}_entropy")["cases"].sum("curve_bin")
        for half in ("low", "high")
    ]
    np.testing.assert_array_equal(halves[0] + halves[1], total)
    tiers = measure(tree, "following_curve", convention="by_text_tier")["cases"]
    np.testing.assert_array_equal(tiers.sum(("text_tier", "curve_bin")), total)


def test_distribution_and_shares_of_relative_uncertainty(tree):
    shares = measure(tree, "relative_uncertainty", convention="histogram").compute()
    np.testing.assert_allclose(shares.sum("delta_bin"), 1)
    mean = measure(tree, "relative_uncertainty", convention="mean").compute()
    np.testing.assert_allclose(shares.dot(shares["delta_bin"]), mean, atol=0.05)
    assert (mean["near_zero"] == 0).all()
    assert ((mean["beyond"] > 0) & (mean["beyond"] < 0.2)).all()


def test_every_index_sees_the_law_that_the_chooser_obeys(tree):
    for convention in ("spearman", "graded", "difference", "confidence", "margin"):
        found = measure(tree, "following_monotone", convention=convention).compute()
        assert (found["upper"] < -0.2).all(), convention
        assert (found["p_value"] < 0.01).all()
    # Candidates' logits of the chooser hold no uncertainty: no law is to be found there.
    none = measure(tree, "following_monotone", convention="candidates").compute()
    assert (np.abs(none) < 0.2).all()


def test_where_nothing_is_solved_counts_are_0_and_nothing_else_is_a_number():
    tree = chooser_tree(12, 1)
    node = tree["sets/scenes/answers"]
    node["top1"] = node["top1"] * 0 + 39  # a token that no answer is
    for row in ROWS:
        if "cases" not in row.outputs or row.convention in ("predictions", "irrelevant"):
            continue
        found = measure_dataset(tree, row, "scenes").compute()
        assert (found["cases"] == 0).all(), (row.name, row.convention)
        assert found["value"].isnull().all(), (row.name, row.convention)
