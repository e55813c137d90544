"""What CONTRIBUTING promises: a measure is a function and a row, a figure likewise, and no other file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import figures
from figures import FIGURES, FigureRow
from runs import accessor  # noqa: F401 - `tree.phasescope`
from runs.catalogue import MEASURES, Read, Reduce
from runs.cli import main
from runs.jobs import execute
from runs.recipe import load_recipe
from runs.store import open_store


def spread(states: np.ndarray) -> float:
    """The new measure: a pure function of arrays."""
    return float(np.nanstd(states))


def draw_spread(material: object, theme: object, **options: object) -> tuple[Figure, xr.Dataset]:
    """The new figure: a function of measures."""
    data = material.measures["spread"]  # type: ignore[attr-defined]
    figure = Figure(figsize=(4, 3))
    axes = figure.add_subplot()
    axes.plot(data["tokens"], data["value"].isel(layer=-1))
    return figure, data[["value"]]


def test_a_registered_measure_and_figure_go_the_whole_way(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = load_recipe(write_recipe(steps="steps = [0, 4]", measures=""))
    execute(recipe)
    row = Reduce(
        "spread",
        "all_points",
        (Read("hidden/hidden", ("point", "feature")),),
        spread,
        unit="activation",
        source="this test",
        outputs=("value",),
    )
    monkeypatch.setitem(MEASURES, ("spread", "all_points"), row)
    drawn = FigureRow(
        name="spread",
        title="Spread",
        function=draw_spread,
        needs=(("spread", "all_points"),),
        phases=False,
        source="this test",
        caption="Spread of states. Inputs: {inputs}.",
    )
    monkeypatch.setitem(FIGURES, "spread", drawn)
    assert execute(recipe).measured == ("spread/all_points/speeches",)
    tree = open_store(recipe.store)
    wanted = np.nanstd(tree["sets/speeches/hidden"]["hidden"].values, axis=(2, 3))
    kept = tree["measures/spread/all_points/speeches"].to_dataset()
    np.testing.assert_allclose(kept["value"], wanted, rtol=1e-6)
    np.testing.assert_allclose(tree.phasescope.measure("spread"), wanted, rtol=1e-6)
    figure, table = figures.draw(tree, "spread")
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), table["value"].isel(layer=-1))
    monkeypatch.setattr("sys.argv", ["phasescope", "figures", str(recipe.store), "spread"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert (tmp_path / "figures" / "spread.svg").is_file()
    assert "Inputs: 40 documents" in (tmp_path / "figures" / "spread.json").read_text()


def test_contributing_names_the_files() -> None:
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    measure = text.split("## Add a measure")[1].split("## ")[0]
    figure = text.split("## Add a figure")[1].split("## ")[0]
    for part, names in ((measure, ["runs/catalogue.py"]), (figure, ["figures/catalogue.py"])):
        for name in names:
            assert name in part
            assert (Path(__file__).parents[2] / name).is_file()
