"""RankMe extrapolated and on parts of the samples, as measures of a store."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geometry.extrapolation import half_sample_rankme
from geometry.intervals import alpha_req_interval
from geometry.spectrum import eigenvalues, rankme
from runs import measure, open_store
from runs.catalogue import MEASURES
from runs.errors import InputError
from runs.jobs import execute
from runs.recipe import load_recipe
from runs.rows.samples import FRACTIONS, nested_parts


def captured(write_recipe: Callable[..., Path], **parts: str) -> Path:
    """A store of two checkpoints with hidden states and no measures."""
    recipe = write_recipe(
        steps="steps = [0, 16]", capture='products = ["hidden"]', measures="names = []", **parts
    )
    execute(load_recipe(recipe))
    return Path(load_recipe(recipe).store)


def states(path: Path) -> tuple[np.ndarray, np.ndarray]:
    tree = open_store(path)
    points = tree["sets/speeches/points"].to_dataset()
    last = points["last"].values
    hidden = tree["sets/speeches/hidden"]["hidden"].values[:, :, last]
    return hidden, points["group"].values[last]


def test_extrapolated_rankme_is_lazy_kept_by_lineage_and_says_what_it_doubts(
    write_recipe: Callable[..., Path],
) -> None:
    path = captured(write_recipe)
    found = measure(open_store(path), "rankme", extrapolate="half_sample")
    assert found.chunks is not None
    assert found.dims == ("checkpoint", "layer")
    hidden, group = states(path)
    for c in range(2):
        for layer in range(hidden.shape[1]):
            wanted = half_sample_rankme(hidden[c, layer], groups=group)
            one = found.isel(checkpoint=c, layer=layer)
            assert float(one) == pytest.approx(wanted.estimate.value)
            assert float(one["upper"]) == pytest.approx(wanted.estimate.upper)
            assert float(one["raw"]) == pytest.approx(wanted.raw)
            assert bool(one["trusted"]) is wanted.trusted
            assert float(one["curvature"]) == pytest.approx(wanted.doubts.curvature)
    assert found["trusted"].dtype == bool
    assert found.attrs["convention"] == "li2025+half_sample"
    # Kept beside the raw value, under its own lineage.
    raw = measure(open_store(path), "rankme", persist=True)
    kept = measure(open_store(path), "rankme", extrapolate="half_sample", persist=True)
    assert kept.attrs["lineage"] != raw.attrs["lineage"]
    node = open_store(path)["measures/rankme/li2025+half_sample/speeches"]
    assert node.attrs["lineage"] == kept.attrs["lineage"]
    again = measure(open_store(path), "rankme", extrapolate="half_sample")
    np.testing.assert_array_equal(again, found)
    np.testing.assert_array_equal(again["trusted"], found["trusted"])
    np.testing.assert_allclose(measure(open_store(path), "rankme"), kept["raw"], rtol=1e-12)


def test_groups_go_whole_into_a_half(write_recipe: Callable[..., Path]) -> None:
    path = captured(write_recipe, inputs='group = "speaker"')
    hidden, group = states(path)
    assert len(np.unique(group)) < len(group)
    found = measure(open_store(path), "rankme", extrapolate="half_sample").isel(
        checkpoint=1, layer=-1
    )
    wanted = half_sample_rankme(hidden[1, -1], groups=group)
    assert float(found["standard_error"]) == pytest.approx(wanted.estimate.standard_error)
    alone = half_sample_rankme(hidden[1, -1])
    assert alone.estimate.standard_error != pytest.approx(wanted.estimate.standard_error)


def test_the_command_line_measures_it(
    write_recipe: Callable[..., Path], cli: Callable[..., tuple[int, str, str]]
) -> None:
    path = captured(write_recipe)
    code, out, _ = cli("measure", path, "rankme/li2025+half_sample")
    assert code == 0
    assert "1 measures computed" in out
    code, _, err = cli("measure", path, "rankme/roy2007+half_sample")
    assert code == 2
    assert "li2025+half_sample" in err


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("alpha_req", {"extrapolate": "half_sample"}, "not extrapolated by half_sample; rankme/li"),
        (
            "rankme",
            {"extrapolate": "half_sample", "convention": "roy2007"},
            "`rankme/roy2007` is not extrapolated",
        ),
        ("rankme", {"extrapolate": "halves"}, 'extrapolate = "halves" is unknown; give "half_sam'),
    ],
)
def test_what_is_not_extrapolated_is_refused(name: str, options: dict[str, str], line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        measure(xr.DataTree(), name, **options)
    assert "\n" not in str(caught.value)


def test_parts_are_nested_and_of_whole_groups() -> None:
    group = np.repeat(np.arange(40), np.random.default_rng(1).integers(1, 6, 40))
    parts = nested_parts(group)
    for fraction, part in zip(FRACTIONS, parts, strict=True):
        assert abs(len(part) - fraction * len(group)) <= 5
        outside = np.setdiff1d(np.arange(len(group)), part)
        assert not set(group[part]) & set(group[outside])
    for small, large in pairwise(parts):
        assert set(small) < set(large)
    np.testing.assert_array_equal(parts[-1], np.arange(len(group)))
    first = [set(nested_parts(np.arange(80), seed=s)[0]) for s in (0, 0, 1)]
    assert first[0] == first[1] != first[2]


def test_rankme_of_parts_of_the_samples(write_recipe: Callable[..., Path]) -> None:
    path = captured(write_recipe)
    hidden, group = states(path)
    found = measure(open_store(path), "rankme_samples").compute()
    assert found.dims == ("checkpoint", "layer", "fraction")
    np.testing.assert_array_equal(found["fraction"], FRACTIONS)
    for index, part in enumerate(nested_parts(group)):
        here = found.isel(fraction=index)
        assert (here["samples"] == len(part)).all()
        if len(part) < 8:
            assert here.isnull().all()
            continue
        wanted = rankme(eigenvalues(hidden[:, :, part]))
        np.testing.assert_allclose(here, wanted, rtol=1e-9)
        assert (here["lower"] < here).all()
    whole = measure(open_store(path), "rankme")
    np.testing.assert_allclose(found.isel(fraction=-1), whole, rtol=1e-12)


def test_alpha_of_parts_of_the_samples() -> None:
    row = MEASURES["alpha_req_samples", "li2025"]
    x = np.random.default_rng(0).standard_normal((480, 110)) * np.arange(1, 111) ** -0.5
    value, error, lower, upper, samples = row.function(
        x, 480, np.ones(480, dtype=bool), np.arange(480)
    )
    np.testing.assert_array_equal(samples, [60, 120, 240, 480])
    assert np.isnan(value[0])  # 60 samples have no hundredth direction
    for index, part in enumerate(nested_parts(np.arange(480))[1:], start=1):
        wanted = alpha_req_interval(x[part])
        found = (value[index], error[index], lower[index], upper[index])
        assert found == pytest.approx(wanted)
