"""The recipes of modalities in conflict: planned as they stand, and run small, through kills."""

from __future__ import annotations

import hashlib
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from runs.jobs import execute
from runs.models.tiny_vlm import UNKNOWN, build_tokenizer
from runs.models.vlm_training import VlmConfig
from runs.plan import check_recipe
from runs.recipe import Recipe, load_recipe
from runs.scene_inputs import build_scenes
from runs.store import open_store
from runs.trained import _config
from tests.runs.conftest import sets_digest
from tests.runs.test_killed import kill_group, start

FOLDER = Path(__file__).parents[2] / "recipes"
NAMES = ("modality", "modality-two-facts")
SMALL = (
    "layers = 2\nwidth = 16\nheads = 2\nmlp = 16\nchannels = [4, 4]\nimages = 2\nsteps = {steps}\n"
    "vision_questions = 1\ntext_questions = 1\nwarmup = 1\n"
)


def small_recipe(folder: Path, *, steps: int = 4, seeds: str = "[0, 1]") -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        'name = "small"\nstore = "s.zarr"\n[series]\nkind = "trained"\nmodel = "tiny-vlm"\n'
        f'path = "weights"\nseeds = {seeds}\n[series.training]\n{SMALL.format(steps=steps)}'
        '[inputs.scenes]\nmode = "scenes"\nstyle = "tiny"\ngroups = 8\nshuffle_seed = 0\n'
        "visual_tiers = [0, 4]\ntext_tiers = [0, 6]\n"
        '[capture]\nproducts = []\nvisits = ["answers"]\n[measures]\nnames = []\n',
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("name", NAMES)
def test_recipes_can_be_planned_as_they_stand(name: str) -> None:
    recipe = load_recipe(FOLDER / f"{name}.toml")
    check_recipe(recipe)
    assert recipe.series.seeds == (0, 1, 2)
    facts = 2 if "two" in name else 1
    config = _config("tiny-vlm", recipe.series.training, 0)
    assert config == VlmConfig(text_facts=facts)
    assert {tier // 10 + 1 for tier in recipe.inputs["scenes"].text_tiers or ()} == {facts}


@pytest.mark.parametrize("name", NAMES)
def test_their_scenes_are_words_the_model_knows(name: str) -> None:
    recipe, tokenizer = load_recipe(FOLDER / f"{name}.toml"), build_tokenizer()
    made = build_scenes("scenes", recipe.inputs["scenes"], tokenizer)
    assert 1500 <= made.samples <= 2500
    assert tokenizer.convert_tokens_to_ids(UNKNOWN) not in made.tokens
    assert len(np.unique(made.group)) == 36


def test_a_small_one_trains_asks_and_is_left_alone_the_second_time(tmp_path: Path) -> None:
    recipe = load_recipe(small_recipe(tmp_path))
    outcome = execute(recipe, console=Console(quiet=True))
    assert outcome.captured == 2 * 4
    assert not outcome.failed
    answers = open_store(recipe.store)["sets/scenes/answers"]
    assert answers["candidate_logits"].sizes["candidate"] == 6
    assert not answers["candidate_logits"].isnull().any()
    ceiling = np.log(66)
    entropy = answers["entropy"].values
    assert (entropy > 0).all()
    assert (entropy < ceiling).all()
    start_of_training = answers["entropy"].sel(layer=3).isel(checkpoint=0).mean()
    assert start_of_training > 2
    assert execute(recipe, console=Console(quiet=True)).captured == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_while_training_or_asking_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    path = small_recipe(tmp_path, steps=250, seeds="[0]")
    recipe = load_recipe(path)
    before = time.monotonic()
    process = start(path, 1)
    _, errors = process.communicate()
    took = time.monotonic() - before
    assert process.returncode == 0, errors
    undisturbed = sets_digest(recipe.store), weights_digest(tmp_path)
    generator, killed = random.Random(3), 0
    clear(tmp_path)
    while killed < 6:
        process = start(path, 1)
        time.sleep(generator.uniform(0.2 * took, 0.9 * took))
        if process.poll() is None:
            kill_group(process)
            killed += 1
        else:
            process.communicate()
            clear(tmp_path)
    process = start(path, 1)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (sets_digest(recipe.store), weights_digest(tmp_path)) == undisturbed


def clear(folder: Path) -> None:
    for name in ("s.zarr", "weights"):
        shutil.rmtree(folder / name, ignore_errors=True)


def weights_digest(folder: Path) -> dict[str, str]:
    files = sorted((folder / "weights").rglob("*.safetensors"))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_settings_are_read_from_the_recipe(tmp_path: Path) -> None:
    recipe: Recipe = load_recipe(small_recipe(tmp_path))
    config = _config("tiny-vlm", recipe.series.training, 1)
    assert (config.channels, config.layers, config.seed) == ((4, 4), 2, 1)
