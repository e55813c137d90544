"""Sets of scenes through a recipe: the tiny vision-language model, as it is before training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runs import measure, open_store
from runs.errors import InputError
from runs.jobs import execute
from runs.loading import quiet_transformers
from runs.models.tiny_vlm import build_tokenizer
from runs.models.vlm_training import VlmConfig, build_model
from runs.plan import make_plan
from runs.recipe import load_recipe

VISITS = ("answers", "modality_patching", "modality_steering")


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    with quiet_transformers():
        for step in (0, 8):
            folder = tmp_path / "series" / f"step{step}"
            build_model(VlmConfig(seed=step, width=32, layers=2, mlp=48)).save_pretrained(folder)
            build_tokenizer().save_pretrained(folder)

    def write(*, series: Path = tmp_path / "series", inputs: str = "", capture: str = "") -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(
            f"""
name = "tiny"
store = "tiny.zarr"
[series]
path = {json.dumps(str(series))}
tokens_per_step = 256
[inputs.scenes]
mode = "scenes"
style = "tiny"
groups = 8
shuffle_seed = 1
visual_tiers = [0, 4]
text_tiers = [0, 5]
{inputs}
[capture]
products = ["hidden", "attention"]
visits = {json.dumps(VISITS)}
block = 16
{capture}
[capture.modality_patching]
pairs = 3
[capture.modality_steering]
strengths = [-1.0, 1.0]
controls = 1
[measures]
names = ["modality_recovery", "steered_following"]
"""
        )
        return path

    return write


def test_every_visit_of_a_recipe_is_captured(recipe: Callable[..., Path]) -> None:
    done = execute(load_recipe(recipe()))
    assert not done.failed
    tree = open_store(done.store)
    answers = tree["sets/scenes/answers"].to_dataset()
    inputs = tree["sets/scenes/inputs"].to_dataset()
    assert dict(answers.sizes) == {
        "checkpoint": 2,
        "condition": 3,
        "layer": 4,
        "sample": inputs.sizes["sample"],
        "candidate": 6,
    }
    for name in ("visual_tier", "text_tier"):
        np.testing.assert_array_equal(answers[name].values.astype(str), inputs[name].values)
    # An answer by the image alone is the same for every text beside it.
    alone = answers["entropy"].sel(condition="image").isel(checkpoint=0, layer=-1).values
    both = answers["entropy"].sel(condition="both").isel(checkpoint=0, layer=-1).values
    assert len(np.unique(alone)) < len(np.unique(both))
    recovery = measure(tree, "modality_recovery")
    np.testing.assert_allclose(recovery.sel(site="answer", layer=2), 1, atol=1e-3)


def test_a_model_that_reads_text_alone_is_refused_before_it_runs(
    recipe: Callable[..., Path], series_folder: Path
) -> None:
    path = recipe(series=series_folder)
    with pytest.raises(InputError, match=r"recipe.toml.*capture\.visits.*reads none"):
        make_plan(load_recipe(path))
    assert not (path.parent / "tiny.zarr").exists()


def test_other_sets_are_refused_before_they_run(recipe: Callable[..., Path]) -> None:
    drawn = "period = 4\nrepeats = 2\nlimit = 8\nshuffle_seed = 0\n"
    path = recipe(capture=f'[inputs.drawn]\nmode = "repeated"\n{drawn}')
    with pytest.raises(InputError, match=r"inputs\.drawn\.mode.*scenes"):
        make_plan(load_recipe(path))
