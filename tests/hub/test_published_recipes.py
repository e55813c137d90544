"""Two published recipes, as they are, with tiny weights and texts under the published names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runs.checkpoints import Series
from runs.plan import make_series
from runs.recipe import load_recipe
from runs.store import open_store
from runs.writing import DONE
from tests.hub.doors import Cli
from tests.hub.series import olmo2_steps, publish_fineweb, publish_series, pythia_steps
from tests.hub.server import Hub

RECIPES = Path(__file__).parents[2] / "recipes"


def copied(name: str, folder: Path) -> tuple[Path, Series]:
    """A recipe in a folder of its own, so that its store lies beside it; and its series."""
    path = Path(shutil.copy(RECIPES / f"{name}.toml", folder / f"{name}.toml"))
    path.write_text(path.read_text().replace('"../out/', '"out/'))
    return path, make_series(load_recipe(path).series)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["pythia-14m", "olmo2-1b"])
def test_a_published_recipe_runs_from_nothing_to_a_report(
    name: str, hub: Hub, tmp_path: Path, cli: Cli
) -> None:
    recipe, series = copied(name, tmp_path)
    publish_fineweb(hub, files=3, rows=100, groups=4)
    by_repository: dict[str, list[str]] = {}
    for checkpoint in series.checkpoints:
        by_repository.setdefault(checkpoint.repository, []).append(checkpoint.revision)
    for number, (repository, revisions) in enumerate(by_repository.items()):
        folder = tmp_path / f"published{number}"
        if "pythia" in name:
            steps = [int(revision.removeprefix("step")) for revision in revisions]
            made = pythia_steps(folder, steps)
        else:
            made = olmo2_steps(folder, revisions)
        publish_series(hub, repository, made)
    code, out, err = cli("plan", recipe)
    assert (code, err) == (0, "")
    assert f"{len(series)} checkpoints" in out
    code, out, err = cli("run", "--report", recipe)
    assert (code, err) == (0, ""), out
    store = load_recipe(recipe).store
    assert (open_store(store)["checkpoints"]["status"] == DONE).all()
    page = (store.parent / "report.html").read_text()
    assert "HuggingFaceFW/fineweb at" in page
    sent = [(r.revision, r.path) for r in hub.downloads(".safetensors")]
    assert len(sent) == len(set(sent)) == len(series)
