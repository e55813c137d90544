"""Published scores against the paper's table, and correlations on planted curves."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from geometry.correlation import implied_n
from runs.errors import InputError
from runs.scores import (
    correlate,
    correlate_curves,
    published_model_of,
    published_models,
    published_name,
    published_scores,
    published_tasks,
)

# arXiv 2509.23024, Table 8, column "original".
TABLE_8 = {"1b": 0.838, "1.4b": 0.866, "2.8b": 0.884, "6.9b": 0.896}


@pytest.mark.parametrize(("size", "printed"), TABLE_8.items())
def test_published_finals_are_those_the_paper_prints(size: str, printed: float) -> None:
    found = published_scores(f"pythia-{size}", "sciq", "acc")
    assert int(found["step"][-1]) == 143_000
    assert abs(float(found[-1]) - printed) <= 0.0025


def test_standard_errors_are_those_of_a_share() -> None:
    # SciQ has 1000 questions: the harness's error is √(p (1 − p)/(n − 1)).
    found = published_scores("410m")
    wanted = np.sqrt(found * (1 - found) / 999)
    np.testing.assert_allclose(found["standard_error"], wanted, rtol=2e-5)


def test_every_model_has_every_task_at_27_steps() -> None:
    tasks = published_tasks()
    assert set(tasks) >= {"sciq", "lambada_openai", "arc_easy", "arc_challenge", "piqa"}
    assert len(published_models()) == 16
    for model in published_models():
        for task, metrics in tasks.items():
            for metric in metrics:
                found = published_scores(model, task, metric)
                assert found.sizes == {"step": 27}
                assert bool(np.isfinite(found).all())
                assert found["tokens"].values[-1] == 143_000 * 2_097_152
    # Chance at the beginning, of four choices and of two.
    assert abs(float(published_scores("12b", "sciq")[0]) - 0.25) < 0.06
    assert abs(float(published_scores("12b", "piqa")[0]) - 0.5) < 0.05


def test_twenty_published_steps_from_64_on_are_the_papers_n() -> None:
    steps = published_scores("6.9b")["step"].values
    assert (steps >= 64).sum() == 20 == round(implied_n(-0.885, 2.19e-7))


@pytest.mark.parametrize(
    "name", ["1b", "pythia-1b", "pythia-1b-bf16", "EleutherAI/pythia-1b", "EleutherAI/Pythia-1B"]
)
def test_names_are_mapped(name: str) -> None:
    assert published_name(name) == "pythia-1b"
    assert published_scores(name).attrs["model"] == "pythia-1b"


def test_unknown_names_are_told() -> None:
    for arguments, told in (
        (("pythia-14m",), "pythia-160m"),
        (("1b", "triviaqa"), "sciq: acc, acc_norm"),
        (("1b", "lambada_openai", "acc_norm"), "lambada_openai: acc, ppl"),
    ):
        with pytest.raises(InputError, match=told):
            published_scores(*arguments)


@pytest.mark.parametrize(
    ("series", "wanted"),
    [
        ('kind = "pythia"\nsize = "1b"', "pythia-1b"),
        ('kind = "pythia"\nsize = "2.8b"\ndeduped = true', "pythia-2.8b-deduped"),
        ('kind = "pythia"\nsize = "160m"\nseed = 3', None),
        ('kind = "pythia"\nsize = "14m"', None),
        ('kind = "hub"\nrepository = "EleutherAI/pythia-70m"', "pythia-70m"),
        ('kind = "hub"\nrepository = "somebody/pythia-70m"', None),
        ('path = "/c/models--EleutherAI--pythia-12b"', "pythia-12b"),
        ('path = "checkpoints"', None),
        ('kind = "olmo2"\nsize = "1b"', None),
        ("[", None),
    ],
)
def test_a_stores_recipe_finds_its_scores(series: str, wanted: str | None) -> None:
    tree = xr.DataTree(xr.Dataset(attrs={"recipe": f'name = "x"\n[series]\n{series}\n'}))
    assert published_model_of(tree) == wanted


def curve(values: np.ndarray, steps: list[int], branch: list[str]) -> xr.DataArray:
    labels = [f"{b}/step{s}" for b, s in zip(branch, steps, strict=True)]
    return xr.DataArray(
        values,
        dims="checkpoint",
        coords={
            "checkpoint": labels,
            "step": ("checkpoint", steps),
            "branch": ("checkpoint", branch),
        },
    )


def planted() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(0)
    steps = [0, *published_scores("1b")["step"].values[1:-2].tolist(), 999, 143_001]
    return curve(rng.normal(size=len(steps)), steps, ["main"] * len(steps)), published_scores("1b")


def test_a_correlation_is_of_the_steps_both_have() -> None:
    measured, scores = planted()
    found = correlate_curves(measured, scores, surrogates=50).sel(branch="main")
    shared = scores["step"].values[1:-2]
    x = measured.values[1:-2]
    y = scores.sel(step=shared).values
    for method, reference in (
        ("pearson", scipy.stats.pearsonr),
        ("spearman", scipy.stats.spearmanr),
    ):
        wanted = reference(x, y)
        row = found.sel(coefficient=method)
        assert int(row["n"]) == len(shared) == 24
        np.testing.assert_allclose(row["value"], wanted.statistic, rtol=1e-10)
        np.testing.assert_allclose(row["p"], wanted.pvalue, rtol=1e-7)
        # The printed pair gives the count back.
        assert round(implied_n(float(row["value"]), float(row["p"]))) == 24
    late = correlate_curves(measured, scores, first_step=64, surrogates=0)
    assert int(late["n"].sel(branch="main", coefficient="pearson")) == 18


def test_order_of_rows_and_missing_values_do_not_matter() -> None:
    measured, scores = planted()
    before = correlate_curves(measured, scores, surrogates=20)
    shuffled = measured.isel(checkpoint=np.random.default_rng(1).permutation(measured.size))
    xr.testing.assert_allclose(correlate_curves(shuffled, scores, surrogates=20), before)
    holed = measured.copy()
    holed.values[3] = np.nan
    assert (correlate_curves(holed, scores, surrogates=0)["n"] == before["n"] - 1).all()


def test_branches_are_apart() -> None:
    rng = np.random.default_rng(2)
    steps = list(range(1, 13)) * 2
    branch = ["main"] * 12 + ["seed1"] * 12
    score = curve(rng.normal(size=24), steps, branch)
    # Of the one branch a copy, of the other its opposite: joined they would cancel.
    measured = curve(score.values * np.repeat([2.0, -3.0], 12), steps, branch)
    found = correlate_curves(measured, score, surrogates=0)["value"]
    np.testing.assert_allclose(found.sel(branch="main"), 1.0)
    np.testing.assert_allclose(found.sel(branch="seed1"), -1.0)


def test_what_is_no_curve_is_refused() -> None:
    measured, scores = planted()
    with pytest.raises(InputError, match="no method `kendall`"):
        correlate_curves(measured, scores, methods=["kendall"])
    with pytest.raises(InputError, match="choose one task first"):
        correlate_curves(measured, scores.expand_dims(task=["a", "b"]))


def test_a_stores_measure_with_its_own_loss(demo_like: xr.DataTree) -> None:
    loss = demo_like.phasescope.measure("loss")
    found = correlate(demo_like, "rankme", loss, surrogates=0)
    rankme = demo_like.phasescope.measure("rankme").isel(layer=-1).values
    late = loss["step"].values >= 1
    wanted = scipy.stats.spearmanr(rankme[late], loss.values[late])
    row = found.sel(branch="main", coefficient="spearman")
    np.testing.assert_allclose([row["value"], row["p"]], [*wanted], rtol=1e-7)
    assert found.attrs["convention"] == "li2025"
    with pytest.raises(InputError, match="no layer `middle`; there are embedding"):
        correlate(demo_like, "rankme", loss, layer="middle")


@pytest.fixture
def demo_like(write_recipe) -> xr.DataTree:  # type: ignore[no-untyped-def]
    from runs import open_store
    from runs.jobs import execute
    from runs.recipe import load_recipe

    recipe = write_recipe(capture='products = ["hidden", "tokens"]')
    return open_store(execute(load_recipe(recipe)).store)
