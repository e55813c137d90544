"""Measures against direct computation, their laziness, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geometry.similarity import linear_cka
from geometry.spectrum import RANKME_CONVENTIONS, eigenvalues, rankme
from runs import measure, open_store
from runs.catalogue import MEASURES
from runs.errors import InputError
from runs.jobs import execute
from runs.measures import sets_for
from runs.recipe import load_recipe

# What this store does not have: the rows of each are computed in a test of their own.
ELSEWHERE = {
    *("answer", "pass_at_k", "fisher", "contexts", "ngrams", "infinigram", "lm_eval"),
    *("eigen_ablation", "word_class", "word_class_8", "word_class_9"),
    *("qk_norms", "sinks", "massive", "entropy_scaled", "last_row"),
    *("repeated_heads", "ov_copying", "head_importance", "induction_ablation"),
    *("answers", "modality_patching", "modality_steering"),
}
NEED_GROUPS = {
    ("lidar", "thilak2023"), ("lidar", "skean2025"), ("dime", "skean2025"), ("infonce", "loss"),
    ("infonce", "bound"), ("semantic_volume", "pairs"),
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, series_folder: Path) -> Path:
    import json

    from tests.runs.conftest import recipe_text, speeches

    folder = tmp_path_factory.mktemp("measured")
    rows = [
        json.dumps({"text": " ".join(t.split()[: 6 + i % 30]), "party": "AB"[i % 2]})
        for i, t in enumerate(speeches())
    ]
    (folder / "speeches.jsonl").write_text("\n".join(rows))
    recipe = folder / "recipe.toml"
    products = 'products = ["hidden", "moments", "attention", "tokens", "trajectory"]'
    capture = f'{products}\nvisits = ["head_ablation"]\n[capture.hidden]\nextra_positions = 1'
    recipe.write_text(
        recipe_text(
            series_folder, steps="steps = [0, 1, 4, 16]", capture=capture, measures="names = []"
        )
    )
    execute(load_recipe(recipe))
    return folder / "tiny.zarr"


@pytest.fixture
def tree(store: Path) -> xr.DataTree:
    return open_store(store)


def last_states(tree: xr.DataTree) -> np.ndarray:
    last = tree["sets/speeches/points"]["last"].values
    return tree["sets/speeches/hidden"]["hidden"].values[:, :, last].astype(float)


@pytest.mark.parametrize("convention", list(RANKME_CONVENTIONS))
def test_rankme_is_of_the_last_tokens(tree: xr.DataTree, convention: str) -> None:
    found = measure(tree, "rankme", convention=convention)
    assert found.chunks is not None
    assert found.dims == ("checkpoint", "layer")
    centered = RANKME_CONVENTIONS[convention].centered
    wanted = rankme(eigenvalues(last_states(tree), centered=centered), convention=convention)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert (found["lower"] < found).all()
    assert (found < found["upper"]).all()
    assert found["step"].values.tolist() == [0, 1, 4, 16]
    assert found["tokens"].values.tolist() == [0, 256, 1024, 4096]
    assert found["layer_name"].values.tolist() == ["embedding", "1", "2", "3", "final"]
    assert found.attrs["convention"] == convention
    assert "N/d = 1.2" in found.attrs["inputs"]


def test_streamed_and_stored_states_agree(tree: xr.DataTree) -> None:
    stored = measure(tree, "rankme", convention="li2025")
    streamed = measure(tree, "rankme_streamed", convention="li2025").sel(pool="last")
    np.testing.assert_allclose(streamed, stored, rtol=1e-6)


def test_the_spectrum_has_all_ranks(tree: xr.DataTree) -> None:
    found = measure(tree, "eigenspectrum", convention="centered").compute()
    assert found.dims == ("checkpoint", "layer", "rank")
    np.testing.assert_array_equal(found["rank"], np.arange(1, 33))
    states = last_states(tree)
    variance = states.var(axis=2).sum(-1)
    np.testing.assert_allclose(found.sum("rank"), variance, rtol=1e-9)


def test_loss_and_token_measures(tree: xr.DataTree) -> None:
    tokens = tree["sets/speeches/tokens"].to_dataset()
    for name, variable in (("loss", "surprisal"), ("token_entropy", "entropy")):
        wanted = np.nanmean(tokens[variable].values.astype(float), axis=(1, 2))
        np.testing.assert_allclose(measure(tree, name), wanted, rtol=1e-9)
    rank = tokens["target_rank"].values
    accuracy = [(r[r >= 0] == 0).mean() for r in rank]
    np.testing.assert_allclose(measure(tree, "next_token_accuracy"), accuracy)


def test_head_entropy_pools_bins_by_their_rows(tree: xr.DataTree) -> None:
    rows = tree["sets/speeches/attention"].to_dataset().sel(statistic="entropy", fold=0)
    wanted = (rows["mean"] * rows["count"]).sum("position_bin") / rows["count"].sum("position_bin")
    found = measure(tree, "head_entropy", convention="zhai2023")
    assert found.dims == ("checkpoint", "block", "head")
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    shares = measure(tree, "head_entropy", convention="normalised_visible").values
    assert (shares > 0).all()
    assert (shares <= 1 + 1e-6).all()


def test_one_nan_row_makes_its_head_nan() -> None:
    from runs.rows.attention import _row_mean as row_mean

    mean, count = np.ones((9, 3)), np.full((9, 3), 4)
    nan = np.zeros((9, 3), int)
    assert np.isfinite(row_mean(mean, count, nan)[0])
    nan[[0, 2], 1] = 1
    assert np.isnan(row_mean(mean, count, nan)[0])


def test_cka_is_with_the_last_checkpoint(tree: xr.DataTree) -> None:
    found = measure(tree, "linear_cka", convention="biased").compute()
    states = last_states(tree)
    for i in range(4):
        for layer in range(5):
            wanted = linear_cka(states[i, layer], states[-1, layer])
            assert found.values[i, layer] == pytest.approx(wanted)
    np.testing.assert_allclose(found.values[-1], 1, rtol=1e-9)


def test_cka_with_the_checkpoint_before(tree: xr.DataTree) -> None:
    found = measure(tree, "linear_cka", convention="debiased_previous").compute()
    labels = found["checkpoint"].values
    assert found["other"].values.tolist() == ["", *labels[:-1]]
    assert np.isnan(found[0]).all()
    states = last_states(tree)
    for i, layer in np.ndindex(3, 5):
        wanted = linear_cka(states[i + 1, layer], states[i, layer], debiased=True)
        assert found.values[i + 1, layer] == pytest.approx(wanted, abs=1e-9)
    final = measure(tree, "linear_cka").compute()
    assert set(final["other"].values) == {labels[-1]}
    assert final["checkpoint"].values.tolist() == labels.tolist()


def test_partners_stay_in_their_branch(tree: xr.DataTree) -> None:
    checkpoints = ["a/0", "a/1", "b/0", "b/1", "b/2", "c/9"]
    hidden = tree["sets/speeches/hidden"].to_dataset().isel(checkpoint=[0, 1, 2, 3, 1, 0])
    hidden = hidden.assign_coords(
        checkpoint=checkpoints,
        branch=("checkpoint", [c[0] for c in checkpoints]),
    )
    nodes = {**tree.to_dict(), "/sets/speeches/hidden": hidden}
    forked = xr.DataTree.from_dict(nodes)
    found = measure(forked, "linear_cka", convention="debiased_previous").compute()
    assert found["other"].values.tolist() == ["", "a/0", "", "b/0", "b/1", ""]
    assert np.isnan(found.values).all(axis=1).tolist() == [True, False, True, False, False, True]
    states = last_states(tree)
    wanted = linear_cka(states[1, 4], states[3, 4], debiased=True)
    assert found.sel(checkpoint="b/2").values[4] == pytest.approx(wanted, abs=1e-9)
    final = measure(forked, "linear_cka").compute()
    assert final["other"].values.tolist() == ["a/1"] * 2 + ["b/2"] * 3 + ["c/9"]
    np.testing.assert_allclose(final.isel(checkpoint=[1, 4, 5]), 1, rtol=1e-9)


def test_the_ledger_adds_up_to_the_change_of_ln_rankme(tree: xr.DataTree) -> None:
    rank = np.log(measure(tree, "rankme", convention="li2025").values)
    found = measure(tree, "entropy_ledger").compute()
    assert found.dims == ("checkpoint", "layer", "band")
    assert found["band"].values.tolist() == ["1", "2–10", "11–100", "101–500", "501+"]
    np.testing.assert_allclose(found.sum("band")[1:], np.diff(rank, axis=0), atol=1e-10)
    assert (found.sel(band=["101–500", "501+"])[1:] == 0).all()  # there are 32 directions
    streamed = measure(tree, "entropy_ledger_streamed").sel(pool="last")
    np.testing.assert_allclose(
        streamed.transpose("checkpoint", "layer", "band"), found, rtol=1e-3, atol=1e-6
    )


def test_layers_are_compared_with_layers(tree: xr.DataTree) -> None:
    found = measure(tree, "layer_cka").compute()
    assert found.dims == ("checkpoint", "layer", "other_layer")
    assert found["other_layer"].values.tolist() == found["layer"].values.tolist()
    states = last_states(tree)
    for a, b in ((0, 3), (4, 1)):
        wanted = linear_cka(states[2, a], states[2, b], debiased=True)
        assert found.values[2, a, b] == pytest.approx(wanted, abs=1e-9)
    below = measure(tree, "principal_angles", convention="layer_below").compute()
    before = measure(tree, "principal_angles").compute()
    assert below.dims == before.dims == ("checkpoint", "layer", "directions")
    for result, one, two in ((below, (2, 3), (2, 2)), (before, (2, 3), (1, 3))):
        bases = [
            np.linalg.svd(states[at] - states[at].mean(0), full_matrices=False)[2][:8].T
            for at in (one, two)
        ]
        wanted = np.linalg.norm(bases[0].T @ bases[1]) ** 2 / 8
        assert result.sel(directions=8).values[2, 3] == pytest.approx(wanted, abs=1e-6)
    whole = before.sel(directions=32)[1:]  # NaN where the norm or few tokens leave less than all 32
    np.testing.assert_allclose(whole.isel(layer=[1, 2, 3]), 1, atol=1e-9)
    assert np.isnan(whole.isel(layer=4)).all()


def test_head_ablation_is_the_paired_increase(tree: xr.DataTree) -> None:
    data = tree["sets/speeches/head_ablation"].to_dataset().compute()
    wanted = (data["ablated_loss"] - data["loss"]).mean("ablated_sample")
    found = measure(tree, "head_ablation")
    assert found.dims == ("checkpoint", "block", "head")
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    surprisal = tree["sets/speeches/tokens"]["surprisal"].values.astype(float)
    np.testing.assert_allclose(data["loss"], np.nanmean(surprisal, axis=2), atol=1e-5)


def test_every_row_computes_or_says_why_not(tree: xr.DataTree) -> None:
    for (name, convention), row in MEASURES.items():
        if not sets_for(tree, row):
            assert ELSEWHERE & {part for read in row.reads for part in read.variable.split("/")}
            with pytest.raises(InputError, match=f"measure `{name}` reads"):
                measure(tree, name, convention=convention)
            continue
        found = measure(tree, name, convention=convention).compute()
        assert found.attrs["unit"]
        assert found.attrs["source"]
        if getattr(MEASURES[name, convention], "others", "") == "previous":
            assert np.isnan(found[0]).all()  # there is none before the first
            assert found["other"].values[0] == ""
            found = found[1:]
        if convention == "layer_below":
            assert np.isnan(found.isel(layer=0)).all()
            found = found.isel(layer=slice(1, None))
        if name == "principal_angles":  # the final norm leaves 31 directions
            found = found.sel(directions=[1, 8])
        if name == "bound_share":  # bounds of nearly equal logits meet, as those of early steps are
            found = found[-1]
        # 32 directions are too few for ranks 12–100, and copies of few last tokens for a dimension;
        # every sample is its own group here.
        if name.startswith("alpha") or convention == "rank100" or (name, convention) in NEED_GROUPS:
            there = xr.zeros_like(found, dtype=bool)
        elif name.startswith("band_alpha"):
            there = found["band"] == "1-10"
        elif "fraction" in found.dims:  # an eighth of 40 samples is too few
            there = found["fraction"] > 0.125
        elif "removed" in found.dims:
            there = found["removed"] < 32
        else:
            there = (
                (found["layer"] > 0) | (name != "intrinsic_dimension")
                if "layer" in found.dims
                else True
            )
        assert (np.isfinite(found) == there).all(), (name, convention, found.values)


def test_persisted_measures_are_read_back(store: Path) -> None:
    fresh = measure(open_store(store), "rankme", convention="roy2007", persist=True)
    again = measure(open_store(store), "rankme", convention="roy2007")
    assert again.chunks is None
    xr.testing.assert_allclose(again, fresh.compute())
    assert again.attrs["source"] == fresh.attrs["source"]


def test_the_accessor_measures_and_draws(tree: xr.DataTree) -> None:
    found = tree.phasescope.measure("loss")
    np.testing.assert_array_equal(found, measure(tree, "loss"))
    figure, table = tree.phasescope.draw("heads", steps=[0, 16])
    assert figure.axes
    assert table.data_vars


def test_what_cannot_be_measured_is_one_line(tree: xr.DataTree) -> None:
    with pytest.raises(InputError, match="no measure `rankmee`; did you mean `rankme`"):
        measure(tree, "rankmee")
    with pytest.raises(InputError, match="no convention `li`; it has li2025, li2025_code"):
        measure(tree, "rankme", convention="li")
    with pytest.raises(InputError, match="set `other`"):
        measure(tree, "rankme", set="other")
