"""The recipes of word classes: each can be planned as it stands, on a small corpus of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs.plan import check_recipe
from runs.recipe import Recipe, load_recipe
from runs.trained import _config, trainer_of
from runs.word_inputs import build_words
from tests.runs.brown_like import write_brown
from tests.runs.test_word_inputs import tokenizer_of

FOLDER = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in FOLDER.glob("word-classes*.toml"))


def recipe_of(name: str) -> Recipe:
    return load_recipe(FOLDER / f"{name}.toml")


def test_there_is_one_of_every_kind_of_model() -> None:
    models = {name: recipe_of(name).series.model for name in NAMES}
    assert models == {
        "word-classes": "neox",
        "word-classes-feedforward": "feedforward",
        "word-classes-lstm": "lstm",
        "word-classes-smollm2": None,
        "word-classes-successor": "lstm",
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_window_is_kept_at_every_layer_and_asked_alike(name: str) -> None:
    recipe = recipe_of(name)
    check_recipe(recipe)
    words, reference = recipe.inputs["words"], recipe_of("word-classes").inputs["words"]
    assert words.limit is not None
    assert words.limit <= recipe.capture.hidden.other_points
    assert (words.classes, words.shuffle_seed, words.context) == (
        reference.classes,
        reference.shuffle_seed,
        9,
    )
    assert "hidden" in recipe.capture_of("words").products


@pytest.mark.parametrize("name", [name for name in NAMES if "smollm2" not in name])
def test_settings_make_a_run_and_no_attention_is_asked_of_models_without(name: str) -> None:
    recipe = recipe_of(name)
    model = recipe.series.model
    assert model is not None
    configs = [_config(model, recipe.series.training, seed) for seed in recipe.series.seeds]
    assert [config.seed for config in configs] == list(recipe.series.seeds)
    assert isinstance(configs[0], trainer_of(model).config)
    if model == "neox":
        assert recipe.series.seeds == (0, 1, 2)
    else:
        assert configs[0].target == ("successor" if "successor" in name else "next")
        assert not any("attention" in recipe.capture_of(s).products for s in recipe.inputs)


def test_its_set_of_words_is_drawn_from_a_corpus_laid_out_like_brown(tmp_path: Path) -> None:
    folder = write_brown(tmp_path / "brown", sentences=12)
    table = recipe_of("word-classes").inputs["words"]
    small = table.model_copy(update={"path": folder, "per_class": 5, "length": 64})
    made = build_words("words", small, tokenizer_of("byte-level", folder))
    assert made.samples == 5 * 8
    assert sorted(set(made.labels["word_class"].tolist())) == sorted(table.classes)
