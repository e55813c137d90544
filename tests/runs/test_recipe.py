from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runs.errors import InputError
from runs.recipe import load_recipe

Write = Callable[..., Path]


def test_paths_are_relative_to_the_recipe(write_recipe: Write, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe())
    assert recipe.store == tmp_path / "tiny.zarr"
    assert recipe.inputs["speeches"].path == tmp_path / "speeches.jsonl"
    assert recipe.text.strip().startswith('name = "tiny"')


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "shuffle_seed = 1",
            "shuffel_seed = 1",
            ["inputs.speeches.shuffel_seed", "`shuffle_seed`"],
        ),
        ("block = 4", "blocks = 4", ["capture.blocks", "`block`"]),
        ("tokens_per_step", "tokens_per_stop", ["series.tokens_per_stop", "`tokens_per_step`"]),
        ('store = "tiny.zarr"', 'stor = "x"', ["`stor`", "`store`"]),
        ('mode = "document"', "", ["inputs.speeches.mode", "required"]),
        ('mode = "document"', 'mode = "documents"', ["inputs.speeches.mode", "'documents'"]),
        ("length = 24", 'length = "long"', ["inputs.speeches.length", "'long'"]),
        ("min_length = 8", "min_length = 80", ["inputs.speeches", "longer than length"]),
        ("block = 4", "block = 0", ["capture.block"]),
        ("block = 4", "block = 4\n[capture.hidden]\npoints = 3", ["capture.hidden.points"]),
        ("[capture]", "[capture", ["not valid TOML"]),
        ('name = "tiny"', 'name = "tiny"\nsource = "x"', ["`source`"]),
    ],
)
def test_a_wrong_key_is_named(write_recipe: Write, old: str, new: str, expected: list[str]) -> None:
    path = write_recipe()
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    line = str(caught.value)
    assert "\n" not in line
    for part in [str(path), *expected]:
        assert part in line


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: no such recipe"):
        load_recipe(tmp_path / "none.toml")


def test_packed_inputs_take_no_labels(write_recipe: Write) -> None:
    path = write_recipe()
    path.write_text(path.read_text().replace('"document"', '"packed"'))
    with pytest.raises(InputError, match="labels need mode"):
        load_recipe(path)
