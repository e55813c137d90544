"""Two published recipes, as they are, with tiny weights and texts under the published names."""

from __future__ import annotations

import re
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


def copied(name: str, folder: Path, spread: int) -> tuple[Path, Series]:
    """A recipe in a folder of its own, with so many checkpoints a branch; and its series."""
    path = Path(shutil.copy(RECIPES / f"{name}.toml", folder / f"{name}.toml"))
    text = re.sub("(?m)^log_spaced = .*$", "", path.read_text().replace('"../out/', '"out/'))
    path.write_text(text.replace("[series]", f"[series]\nlog_spaced = {spread}"))
    return path, make_series(load_recipe(path).series)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "spread"), [("pythia-14m", 8), ("olmo2-1b", 3)])
def test_a_published_recipe_runs_from_nothing_to_a_report(
    name: str, spread: int, hub: Hub, tmp_path: Path, cli: Cli
) -> None:
    """As published but for the number of checkpoints: the whole series take a quarter of an hour."""
    recipe, series = copied(name, tmp_path, spread)
    publish_fineweb(hub, files=3, rows=100, groups=4)
    revisions = [c.revision for c in series.checkpoints]
    folder = tmp_path / "published"
    if "pythia" in name:
        made = pythia_steps(folder, [int(r.removeprefix("step")) for r in revisions])
    else:
        made = olmo2_steps(folder, revisions)
    for repository in {c.repository for c in series.checkpoints}:
        mine = [c.revision for c in series.checkpoints if c.repository == repository]
        publish_series(hub, repository, {revision: made[revision] for revision in mine})
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
