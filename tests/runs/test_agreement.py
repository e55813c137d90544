"""Phases of several training runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from runs.agreement import phase_agreement, show_agreement
from runs.errors import InputError
from runs.jobs import execute
from runs.phases import find_phases
from runs.recipe import PhasesTable, load_recipe
from tests.runs.test_cli import one_line
from tests.runs.test_phases import curve

Cli = Callable[..., tuple[int, str, str]]
STEPS = [2**i for i in range(12)]


@cache
def turned(at: int, seed: int) -> xr.Dataset:
    """Phases of a run whose curves both turn at one checkpoint, with noise of its own."""
    noise = np.random.default_rng(seed).normal(0, 0.02, (2, len(STEPS)))
    bend = np.abs(np.arange(len(STEPS)) - at)
    rank = np.exp(2 + 0.4 * bend + noise[0])
    alpha = 3 - 0.2 * bend + noise[1]
    both = {"log_rankme": curve(STEPS, list(rank)), "alpha": curve(STEPS, list(alpha))}
    return find_phases(both, "main", PhasesTable(max_breaks=1))


def study(turns: list[int]) -> xr.DataTree:
    nodes = {f"/phases/speeches/seed {i}": turned(at, i) for i, at in enumerate(turns)}
    return xr.DataTree.from_dict(nodes)


def test_runs_that_turn_at_one_place_agree() -> None:
    found = phase_agreement(study([5, 5, 5]))
    assert found["member"].shape == (3, 1)
    assert float(found["place"][0]) == pytest.approx(10 * STEPS[5])
    assert float(found["share"][0]) == 1
    assert float(found["training_error"][0]) == pytest.approx(0, abs=1e-12)
    assert float(found["probe_error"][0]) > 0
    np.testing.assert_array_equal(found["adjusted_rand"], 1)


def test_training_noise_is_the_spread_of_places() -> None:
    found = phase_agreement(study([4, 5, 6]), tolerance=0.4)
    logs = np.log10(10 * np.array(STEPS)[[4, 5, 6]])
    np.testing.assert_allclose(np.log10(found["member"].values[:, 0]), logs)
    assert float(found["training_error"][0]) == pytest.approx(logs.std(ddof=1) / np.sqrt(3))
    alike = found["adjusted_rand"].values
    np.testing.assert_array_equal(alike, alike.T)
    assert alike[0, 2] < alike[0, 1] < 1


def test_a_boundary_that_one_run_lacks() -> None:
    found = phase_agreement(study([3, 3, 8]))
    assert found["share"].values.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert np.isnan(found["member"].values).sum() == 3
    written = StringIO()
    show_agreement(found, Console(file=written, width=120))
    text = written.getvalue()
    assert "67%" in text
    assert "—" in text
    assert "least" in text


def test_one_run_cannot_agree(write_recipe: Callable[..., Path], cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 training runs have phases of set speeches"):
        phase_agreement(study([5]))
    store = execute(load_recipe(write_recipe(steps="steps = [0, 1]"))).store
    one_line(cli("agreement", store), "two are needed")
    with pytest.raises(InputError, match="of set none"):
        phase_agreement(study([5, 5]), name="none")
