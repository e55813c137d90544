"""The product `trajectory` and its rows: against states kept one by one, batches, and plans."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geometry.matrix_entropy import dataset_entropy, diff_erank
from geometry.semantic_volume import semantic_volume
from geometry.views import dime, infonce, lidar, paired_views
from runs import measure, open_store
from runs.backends import TorchHooks
from runs.jobs import execute
from runs.loading import load_model
from runs.passes import capture_set
from runs.plan import layout_bytes, layouts_of, make_plan
from runs.products import PRODUCTS
from runs.products.trajectory import STATISTICS, chosen_samples
from runs.recipe import load_recipe
from runs.rows.trajectory import _sample_mean
from tests.runs.conftest import recipe_text, speeches

Arrays = dict[str, np.ndarray]
CAPTURE = 'products = ["hidden", "trajectory"]\n[capture.trajectory]\nentropy_samples = 12\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty groups of three documents of different length."""
    folder = tmp_path_factory.mktemp("trajectories")
    rows = [
        {"text": " ".join(t.split()[: 6 + i % 30]), "party": "AB"[i % 2], "speaker": i // 3}
        for i, t in enumerate(speeches())
    ]
    (folder / "speeches.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def recipe(folder: Path, series: Path, name: str, capture: str = CAPTURE, **parts: str) -> Path:
    text = recipe_text(
        series, inputs='group = "speaker"', capture=capture, measures="names = []", **parts
    )
    path = folder / f"{name}.toml"
    path.write_text(text.replace("tiny.zarr", f"{name}.zarr"))
    return path


@pytest.fixture(scope="module")
def tree(folder: Path, series_folder: Path) -> xr.DataTree:
    extra = CAPTURE.replace("\n[", "\n[capture.hidden]\nextra_positions = 23\n[", 1)
    path = recipe(folder, series_folder, "kept", extra, steps="steps = [0, 1, 4, 16]")
    return open_store(execute(load_recipe(path)).store)


def sample_states(tree: xr.DataTree) -> list[np.ndarray]:
    """States (checkpoint, layer, token, feature) of each sample, of a store that kept them all."""
    hidden = tree["sets/speeches/hidden"]["hidden"].values
    points = tree["sets/speeches/points"].to_dataset()
    found = []
    for sample in range(tree["sets/speeches/inputs"].sizes["sample"]):
        at = np.flatnonzero(points["sample"].values == sample)
        found.append(hidden[:, :, at[np.argsort(points["position"].values[at])]].astype(float))
    return found


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    with np.errstate(invalid="ignore"):
        return np.arccos(np.clip((a * b).sum(-1) / norms, -1, 1))


def test_the_product_is_what_the_states_say(tree: xr.DataTree) -> None:
    data = tree["sets/speeches/trajectory"].to_dataset().compute()
    assert data["mean"].dims == ("checkpoint", "statistic", "layer", "sample")
    assert data["statistic"].values.tolist() == list(STATISTICS)
    states = sample_states(tree)
    assert len({x.shape[2] for x in states}) > 5
    chosen = chosen_samples(len(states), 12)
    assert chosen.sum() == 12
    for sample, x in enumerate(states):
        own = data.isel(sample=sample)
        steps = np.diff(x, axis=2)
        turns = angles(steps[:, :, 1:], steps[:, :, :-1])
        seen = own.sel(statistic="curvature")
        np.testing.assert_array_equal(seen["terms"], np.isfinite(turns).sum(-1))
        np.testing.assert_allclose(seen["mean"], np.nanmean(turns, axis=-1), rtol=1e-5)
        norms = np.linalg.norm(x, axis=-1)
        np.testing.assert_allclose(own["mean"].sel(statistic="norm"), norms.mean(-1), rtol=1e-5)
        for name, centered in (("centered_entropy", True), ("plain_entropy", False)):
            seen = own.sel(statistic=name)
            if not chosen[sample]:
                assert (seen["terms"] == -1).all()
                assert seen["mean"].isnull().all()
                continue
            wanted = [[dataset_entropy(z, centered=centered) for z in layers] for layers in x]
            np.testing.assert_allclose(seen["mean"], wanted, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(seen["terms"], np.full(seen["terms"].shape, x.shape[2]))


def test_a_repeated_word_is_counted_out_of_the_embedding(tree: xr.DataTree) -> None:
    """The embedding of a token twice over is twice the same; later layers know its position."""
    tokens = tree["sets/speeches/inputs"]["tokens"].values
    length = tree["sets/speeches/inputs"]["length"].values
    same = [(np.diff(t[:n]) == 0) for t, n in zip(tokens, length, strict=True)]
    lost = sum(int((s[1:] | s[:-1]).sum()) for s in same)
    assert lost > 0
    share = measure(tree, "curvature")["left_out"].compute()
    np.testing.assert_allclose(share.isel(layer=0), lost / (length - 2).sum(), rtol=1e-9)
    assert (share.isel(layer=slice(1, None)) == 0).all()


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_the_micro_batch_changes_nothing_but_rounding(
    folder: Path, series_folder: Path, micro_batch: int
) -> None:
    plan = make_plan(load_recipe(recipe(folder, series_folder, "batches")))
    loaded = load_model(series_folder / "step4")
    spec = plan.specs["speeches"]

    def once(size: int | None) -> Arrays:
        collector = PRODUCTS["trajectory"].collector(spec, loaded.unembedding)
        capture_set(TorchHooks(loaded), spec.inputs, [collector], block=4, micro_batch=size)
        return collector.finish()

    whole, parts = once(None), once(micro_batch)
    np.testing.assert_array_equal(parts["terms"], whole["terms"])
    np.testing.assert_allclose(parts["mean"], whole["mean"], rtol=1e-4, atol=1e-5)
    assert once(None)["mean"].tobytes() == whole["mean"].tobytes()


def test_a_plan_has_its_bytes(
    folder: Path, series_folder: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    path = recipe(folder, series_folder, "planned", steps="steps = [0, 1]")
    each = layout_bytes(layouts_of(make_plan(load_recipe(path)).specs))["speeches/trajectory"]
    assert each == len(STATISTICS) * 5 * 40 * (4 + 4) == 11_200
    code, out, _ = cli("plan", path)
    assert code == 0
    assert re.search(r"speeches/trajectory\W+11\.2 kB\W+22\.4 kB", out)


def test_samples_with_entropies_are_spread_evenly() -> None:
    assert chosen_samples(5, 9).all()
    assert np.flatnonzero(chosen_samples(100, 4)).tolist() == [0, 25, 50, 75]
    assert chosen_samples(7, 3).sum() == 3
    assert chosen_samples(640, 256).sum() == 256


def test_curvature_is_the_mean_over_samples(tree: xr.DataTree) -> None:
    data = tree["sets/speeches/trajectory"].to_dataset().compute()
    for convention, statistic in (
        ("differences", "curvature"),
        ("unsigned", "unsigned_curvature"),
        ("states", "state_angle"),
    ):
        found = measure(tree, "curvature", convention=convention).compute()
        assert found.dims == ("checkpoint", "layer")
        wanted = data["mean"].sel(statistic=statistic).mean("sample")
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        assert ((found["lower"] < found) & (found < found["upper"])).all()
        assert found.attrs["unit"] == "radians"


def test_sentence_entropy_and_its_share_of_ln_n(tree: xr.DataTree) -> None:
    data = tree["sets/speeches/trajectory"].to_dataset().compute()
    chosen = chosen_samples(data.sizes["sample"], 12)
    logs = np.log(tree["sets/speeches/inputs"]["length"].values[chosen])
    for name, statistic in (("skean2025", "centered_entropy"), ("uncentered", "plain_entropy")):
        each = data["mean"].sel(statistic=statistic).values[..., chosen].astype(float)
        found = measure(tree, "sentence_entropy", convention=name)
        np.testing.assert_allclose(found, each.mean(-1), rtol=1e-6)
        share = measure(tree, "sentence_entropy", convention=f"{name}_per_log_n")
        np.testing.assert_allclose(share, (each / logs).mean(-1), rtol=1e-6)
        assert (share < 1).all()


def test_a_state_that_is_no_number_makes_its_mean_none() -> None:
    mean, terms = np.array([1.0, 2.0, np.nan]), np.array([3, 3, 0])
    length, group = np.array([5, 5, 2]), np.arange(3)
    assert _sample_mean(mean, terms, length, group, ends=2)[0] == 1.5
    assert _sample_mean(mean, terms, length, group, ends=2)[-1] == 0
    mean[1] = np.nan
    assert np.isnan(_sample_mean(mean, terms, length, group, ends=2)[:4]).all()
    nothing = _sample_mean(mean, np.full(3, -1), length, group, ends=2)
    assert np.isnan(nothing).all()


def test_intervals_of_curvature_know_groups(tree: xr.DataTree) -> None:
    values = tree["sets/speeches/trajectory"]["mean"].sel(statistic="curvature").values
    group = tree["sets/speeches/inputs"]["group"].values
    x = values[2, 3].astype(float)
    sums = np.array([(x[group == g] - x.mean()).sum() for g in np.unique(group)])
    count = len(sums)
    wanted = np.sqrt(count / (count - 1) * (sums**2).sum()) / len(x)
    found = measure(tree, "curvature")["standard_error"].values[2, 3]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def last_states(tree: xr.DataTree) -> tuple[np.ndarray, np.ndarray]:
    points = tree["sets/speeches/points"].to_dataset()
    last = points["last"].values
    states = tree["sets/speeches/hidden"]["hidden"].values[:, :, last].astype(float)
    return states, points["group"].values[last]


def test_diff_erank_is_against_the_first_checkpoint(tree: xr.DataTree) -> None:
    found = measure(tree, "diff_erank", convention="last_tokens").compute()
    states, _ = last_states(tree)
    wanted = [[diff_erank(a, b) for a, b in zip(states[0], x, strict=True)] for x in states]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    assert (found[0] == 0).all()
    assert set(found["other"].values) == {"main/step0"}
    means = measure(tree, "sentence_entropy").compute().values
    sentences = measure(tree, "diff_erank", convention="wei2024").compute()
    np.testing.assert_allclose(sentences, np.exp(means[0]) - np.exp(means), rtol=1e-9, atol=1e-9)
    assert (sentences["lower"] <= sentences).all()
    assert (sentences["standard_error"][0] == 0).all()
    assert (sentences["standard_error"][1:] > 0).all()


def test_the_first_checkpoint_is_each_branchs_own(tree: xr.DataTree) -> None:
    """Two branches made of four checkpoints: each starts from its own first, in order of tokens."""
    from runs.catalogue import MEASURES, Pair
    from runs.measures import _apply_pair

    row = MEASURES["diff_erank", "last_tokens"]
    assert isinstance(row, Pair)
    branch = np.array(["main", "main", "other", "other"])
    nodes = {
        path: data.assign_coords(branch=("checkpoint", branch))
        if "checkpoint" in data.dims
        else data
        for path, data in tree.to_dict().items()
    }
    found = _apply_pair(xr.DataTree.from_dict(nodes), row, "speeches").compute()
    labels = tree["sets/speeches/hidden"]["checkpoint"].values
    assert found["other"].values.tolist() == [*labels[[0, 0]], *labels[[2, 2]]]
    states, _ = last_states(tree)
    for at, first in ((1, 0), (3, 2)):
        wanted = [diff_erank(a, b) for a, b in zip(states[first], states[at], strict=True)]
        np.testing.assert_allclose(found["value"][at], wanted, rtol=1e-9)
    assert (found["value"].values[[0, 2]] == 0).all()


def test_groups_are_views(tree: xr.DataTree) -> None:
    states, group = last_states(tree)
    pairs = [[paired_views(x, group) for x in layers] for layers in states]
    assert len(pairs[0][0].first) > 5
    wanted = {
        ("lidar", "thilak2023"): [[lidar(x, group) for x in layers] for layers in states],
        ("infonce", "loss"): [[infonce(*p).loss for p in row] for row in pairs],
        ("infonce", "bound"): [[infonce(*p).bound for p in row] for row in pairs],
        ("dime", "skean2025"): [[dime(*p) for p in row] for row in pairs],
        ("semantic_volume", "cloud"): [[semantic_volume(x) for x in row] for row in states],
        ("semantic_volume", "pairs"): [
            [np.mean([semantic_volume(np.stack(q)) for q in zip(*p, strict=True)]) for p in row]
            for row in pairs
        ],
        ("dataset_entropy", "last_tokens_centered"): [
            [dataset_entropy(x) for x in row] for row in states
        ],
    }
    for (name, convention), values in wanted.items():
        found = measure(tree, name, convention=convention).compute()
        assert np.isfinite(values).all(), name
        np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-9)
