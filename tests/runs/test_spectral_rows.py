"""Rows of bands, dispersion and dimension against the same numbers from the states themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geometry import bands, dimension, dispersion
from geometry.spectrum import eigenvalues
from runs import measure, open_store
from runs.catalogue import MEASURES
from runs.errors import InputError
from runs.jobs import execute
from runs.measures import keep, measure_dataset
from runs.recipe import load_recipe
from runs.rows import bands as band_rows
from runs.rows import dimension as dimension_rows
from runs.rows import dispersion as dispersion_rows
from tests.runs.conftest import recipe_text, speeches


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, series_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("spectral")
    rows = [json.dumps({"text": text, "party": "AB"[i % 2]}) for i, text in enumerate(speeches())]
    (folder / "speeches.jsonl").write_text("\n".join(rows))
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe_text(series_folder, steps="steps = [0, 16]", measures="names = []"))
    return execute(load_recipe(recipe)).store


@pytest.fixture
def tree(store: Path) -> xr.DataTree:
    return open_store(store)


def states(tree: xr.DataTree) -> np.ndarray:
    last = tree["sets/speeches/points"]["last"].values
    return tree["sets/speeches/hidden"]["hidden"].values[:, :, last].astype(float)


def everywhere(tree: xr.DataTree, function: object) -> np.ndarray:
    """A number of each (checkpoint, layer), or several along further axes."""
    return np.array([[function(x) for x in one] for one in states(tree)])  # type: ignore[operator]


def test_bands_and_heads_are_dimensions_with_labels(tree: xr.DataTree) -> None:
    found = measure(tree, "band_alpha")
    assert found.dims == ("checkpoint", "layer", "band")
    assert found["band"].values.tolist() == ["1-10", "11-100", "101-500", "512+"]
    assert found.chunks is not None
    wanted = everywhere(tree, lambda x: bands.band_alpha(eigenvalues(x), samples=len(x)).alpha)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert np.isfinite(found.sel(band="1-10")).all()
    assert np.isnan(found.sel(band="11-100")).all()  # 32 features
    assert (found["lower"] < found).sel(band="1-10").all()
    rest = measure(tree, "rankme_without_top")
    assert rest["removed"].values.tolist() == [1, 2, 8, 32]
    wanted = everywhere(tree, lambda x: bands.rankme_without_top(eigenvalues(x)))
    np.testing.assert_allclose(rest, wanted, rtol=1e-9)
    assert np.isnan(rest.sel(removed=32)).all()


@pytest.mark.parametrize(
    "name",
    ["band_alpha", "rankme_without_top", "participation_ratio", "stable_rank", "spectral_entropy"],
)
def test_streamed_and_stored_states_agree(tree: xr.DataTree, name: str) -> None:
    for convention in [c for n, c in MEASURES if n == name]:
        stored = measure(tree, name, convention=convention)
        streamed = measure(tree, f"{name}_streamed", convention=convention).sel(pool="last")
        np.testing.assert_allclose(streamed, stored.values, rtol=1e-5)


def test_dispersion_is_of_the_last_tokens(tree: xr.DataTree) -> None:
    for name, convention, function in (
        (
            "participation_ratio",
            "centered",
            lambda x: dispersion.participation_ratio(eigenvalues(x)),
        ),
        (
            "stable_rank",
            "uncentered",
            lambda x: dispersion.stable_rank(eigenvalues(x, centered=False)),
        ),
        ("anisotropy", "ethayarajh2019", dispersion.mean_cosine),
        ("anisotropy", "razzhigaev2023", lambda x: dispersion.leading_share(eigenvalues(x))),
        ("condition_number", "resolved", lambda x: dispersion.condition_number(eigenvalues(x))),
    ):
        found = measure(tree, name, convention=convention)
        np.testing.assert_allclose(found, everywhere(tree, function), rtol=1e-9)
        assert (found["lower"] < found).all()
        assert (found < found["upper"]).all()
    ends = measure(tree, "condition_number")["last"]
    # The embedding has as many directions as features or points; a layer norm takes one away.
    assert ends.sel(layer=4).values.tolist() == [31, 31]
    assert np.isnan(measure(tree, "condition_number", convention="rank100")).all()


@pytest.mark.parametrize("convention", list(dimension.DIMENSION_CONVENTIONS))
def test_dimension_is_of_the_last_tokens(tree: xr.DataTree, convention: str) -> None:
    found = measure(tree, "intrinsic_dimension", convention=convention)
    wanted = everywhere(
        tree, lambda x: dimension.intrinsic_dimension(x, convention=convention).value
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    # Last tokens after the embedding alone: a few words of the lexicon, most of them copies.
    copies = everywhere(tree, lambda x: len(x) - len(np.unique(x, axis=0)))
    np.testing.assert_array_equal(found["dropped"], copies)
    assert (found["dropped"].sel(layer=0) > 0).all()


def test_without_the_extra_one_line_says_what_to_install(
    tree: xr.DataTree, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skdim", None)
    monkeypatch.setitem(sys.modules, "skdim.id", None)
    row = MEASURES["intrinsic_dimension", "denti2022"]
    with pytest.raises(InputError, match=r"pip install 'phasescope\[dimension\]'$"):
        keep(store, row, measure_dataset(tree, row, "speeches"))


def test_every_row_says_what_it_is() -> None:
    for row in (*band_rows.ROWS, *dispersion_rows.ROWS, *dimension_rows.ROWS):
        assert row.unit
        assert row.source
        assert ("lower" in row.outputs) == bool(row.interval) or row.name == "intrinsic_dimension"
        assert row.default is False or row.name not in ("intrinsic_dimension", "condition_number")
