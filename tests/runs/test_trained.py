"""Series trained here: one branch a seed, trained once, and refused in one line when wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from runs.errors import InputError
from runs.jobs import execute
from runs.models import text_run
from runs.models.corpus import Speech
from runs.models.neox import checkpoint_steps
from runs.plan import make_series
from runs.planning import show_recipe
from runs.recipe import Recipe, load_recipe
from runs.store import open_store
from runs.trained import _run, trained
from runs.training import train_missing

WORDS = [f"the {a} of the {b} sat on the mat, and the hat" for a in "abcdef" for b in "uvwxyz"]
SETTINGS = (
    "layers = 1\nwidth = 16\nheads = 2\nmlp = 32\nvocabulary = 280\nlength = 12\nbatch = 2\n"
    "steps = 5\nwarmup = 2\nper_octave = 1\nthreads = 1\n"
)


@pytest.fixture(autouse=True)
def _few_speeches(monkeypatch: pytest.MonkeyPatch) -> None:
    speeches = [Speech(f"s{i}", 1900, "1900-01-01", "nobody", text) for i, text in enumerate(WORDS)]
    monkeypatch.setattr(text_run, "load_speeches", lambda part: speeches)
    _run.cache_clear()


def recipe_of(folder: Path, *, seeds: str = "[3, 5]", settings: str = SETTINGS) -> Recipe:
    (folder / "text.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in WORDS), encoding="utf-8"
    )
    path = folder / "recipe.toml"
    path.write_text(
        'name = "two seeds"\nstore = "s.zarr"\n'
        f'[series]\nkind = "trained"\nmodel = "neox"\npath = "weights"\nseeds = {seeds}\n'
        f"[series.training]\n{settings}"
        '[inputs.text]\npath = "text.jsonl"\nmode = "document"\nlength = 8\n'
        '[capture]\nproducts = ["hidden", "tokens"]\n[measures]\nnames = ["loss"]\n',
        encoding="utf-8",
    )
    return load_recipe(path)


def quiet() -> Console:
    return Console(quiet=True)


def test_run_trains_every_seed_and_captures_it_as_a_branch(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    outcome = execute(recipe, console=quiet())
    steps = checkpoint_steps(5, 1)
    assert outcome.captured == 2 * len(steps)
    assert not outcome.failed
    checkpoints = open_store(recipe.store)["checkpoints"]
    assert sorted(checkpoints["checkpoint"].values) == sorted(
        f"seed-{seed}/step{step}" for seed in (3, 5) for step in steps
    )
    weights = {p: p.stat().st_mtime_ns for p in (tmp_path / "weights").rglob("*.safetensors")}
    again = execute(recipe, console=quiet())
    assert again.captured == 0
    assert weights == {p: p.stat().st_mtime_ns for p in weights}


def test_a_further_seed_trains_that_one_alone(tmp_path: Path) -> None:
    train_missing(recipe_of(tmp_path, seeds="[3]"), quiet())
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "weights").rglob("*.safetensors")}
    recipe = recipe_of(tmp_path, seeds="[3, 4]")
    train_missing(recipe, quiet())
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert {c.branch for c in make_series(recipe.series).checkpoints} == {"seed-3", "seed-4"}


def test_plan_trains_nothing_and_says_so(tmp_path: Path) -> None:
    recipe, screen = recipe_of(tmp_path), io.StringIO()
    show_recipe(recipe, Console(file=screen, width=200))
    assert "2 of 2 runs are not trained yet" in screen.getvalue()
    assert not (tmp_path / "weights").exists()
    with pytest.raises(InputError, match=r"seed-3: not trained yet; `phasescope run"):
        trained(recipe.series)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("stepps = 4\n", r"unknown key `series.training.stepps`; did you mean `steps`\?"),
        ("seed = 4\n", r"key `series.training.seed`: set `series.seeds`"),
        ('steps = "many"\n', r"key `series.training.steps`: .*integer.*'many'"),
        ("width = 15\n", r"key `series.training`: width must be a multiple of heads 4, not 15"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, settings: str, line: str) -> None:
    with pytest.raises(InputError, match=r"^\S*recipe.toml: " + line):
        execute(recipe_of(tmp_path, settings=settings), console=quiet())


def test_other_settings_in_a_folder_with_weights_are_refused(tmp_path: Path) -> None:
    train_missing(recipe_of(tmp_path), quiet())
    other = recipe_of(tmp_path, settings=SETTINGS.replace("warmup = 2", "warmup = 1"))
    with pytest.raises(InputError, match=r"seed-3: holds another run: warmup is 2, not 1"):
        train_missing(other, quiet())


def test_another_tokenizer_in_one_of_the_folders_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    train_missing(recipe, quiet())
    file = tmp_path / "weights" / "seed-5" / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"seed-5: its tokenizer is not that of"):
        trained(recipe.series)


def test_a_seed_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`seeds` names a seed twice"):
        recipe_of(tmp_path, seeds="[3, 3]")
