"""Sets of scenes: the table's keys, samples, Parquet files and the command that writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from probes.scenes import make_cases, render
from runs.errors import InputError
from runs.inputs import InputSet, build_set
from runs.recipe import InputTable, load_recipe
from runs.scene_files import png_bytes, read_scenes, write_scenes
from runs.scene_inputs import make_scenes

TABLE: dict[str, Any] = {
    "mode": "scenes",
    "subset": "colour",
    "groups": 9,
    "shuffle_seed": 3,
    "visual_tiers": [0, 5, 7],
}


class Words:
    """A tokenizer of words, numbered as they come."""

    bos_token_id = None
    eos_token_id = 0
    pad_token_id = 1

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def __len__(self) -> int:
        return 5000

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        return {
            "input_ids": [
                [self.known.setdefault(w, len(self.known) + 2) for w in t.split()] for t in text
            ]
        }


def built(**changes: Any) -> InputSet:
    return build_set("c", InputTable.model_validate({**TABLE, **changes}), Words())


def test_a_set_of_scenes_is_what_the_generator_makes() -> None:
    tokenizer = Words()
    made = build_set("c", InputTable.model_validate(TABLE), tokenizer)
    cases, plans = make_cases(groups=9, seed=3, visual_tiers=[0, 5, 7])
    wanted = cases.part(cases.kind != "agreement")
    assert made.scenes is not None
    for name, column in made.scenes.cases.columns().items():
        np.testing.assert_array_equal(column, getattr(wanted, name), err_msg=name)
    words = {number: word for word, number in tokenizer.known.items()}
    for row in range(made.samples):
        said = " ".join(words[i] for i in made.tokens[row, : made.length[row]])
        assert said == f"{wanted.text[row]} {wanted.question[row]}"
        assert (made.tokens[row, made.length[row] :] == 1).all()
    np.testing.assert_array_equal(made.group, wanted.group)
    assert set(made.fold) == set(range(1, 9))
    assert made.labels["kind"].tolist() == wanted.kind.tolist()
    assert made.labels["visual_tier"].tolist() == [str(t) for t in wanted.visual_tier]
    assert set(made.labels) == {
        "subset", "kind", "answer_image", "answer_text", "visual_tier", "text_tier", "typicality"
    }  # fmt: skip
    number = int(wanted.image[7])
    np.testing.assert_array_equal(made.scenes.image(number), render(plans[number]))
    assert made.description == (
        "135 cases of colour in 9 groups over 54 images, style paper, seed 3"
    )


def test_everything_that_decides_the_set_is_in_its_digest() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"shuffle_seed": 4},
        {"groups": 10},
        {"visual_tiers": [0, 5, 8]},
        {"text_tiers": [0, 1]},
        {"kinds": ["conflict", "agreement"]},
        {"limit": 130},
    ]
    digests = [built(**change).digest for change in changes]
    assert len(set(digests)) == len(changes)
    assert built().digest == digests[0]


def test_a_drawing_that_changed_is_another_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = built().digest
    monkeypatch.setitem(
        __import__("probes.colour_scenes").colour_scenes.PALETTE, "red", (201, 0, 25)
    )
    assert built().digest != before


def test_a_limit_keeps_whole_groups() -> None:
    made = built(limit=134)
    assert made.samples == 120
    assert np.unique(made.group).tolist() == list(range(8))


def test_every_subset_has_its_own_groups() -> None:
    made = built(subset=["material", "position"], groups=8, visual_tiers=[0], text_tiers=[3])
    assert made.scenes is not None
    assert np.unique(made.group).tolist() == list(range(16))
    assert set(made.scenes.cases.candidates) == {"material", "position"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": None}, "`groups` (or `path`) is required"),
        ({"shuffle_seed": None}, "`shuffle_seed` (or `path`) is required"),
        ({"length": 12}, "`length` does not go with mode"),
        ({"period": 4}, "`period` goes with mode"),
        ({"labels": ["kind"]}, "`labels` does not go with mode"),
        ({"path": "x.parquet"}, "`style` does not go with `path`"),
        ({"kinds": ["conflict", "conflict"]}, "`kinds` names one twice"),
        ({"visual_tiers": [1, 1]}, "`visual_tiers` names one twice"),
        ({"mode": "document", "path": "x.txt", "length": 8}, "`style` goes with mode"),
    ],
)
def test_keys_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    table = {**TABLE, "style": "paper", **change}
    with pytest.raises(ValidationError) as caught:
        InputTable.model_validate(table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual_tiers": [14]}, r"`inputs.c`: style = \"paper\": visual_tiers \[14\]"),
        ({"limit": 50}, "3 groups of cases are left"),
        ({"subset": ["colour", "shape"]}, "subset shape has tiers 0 to 3"),
    ],
)
def test_what_the_style_has_not_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        built(**change)


def test_a_recipe_names_the_key(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    head = 'name = "x"\nstore = "x.zarr"\n[series]\npath = "."\n[inputs.c]\nmode = "scenes"\n'
    recipe.write_text(head + "groups = 8\nshuffle_seed = 1\nsubset = 'size'\n")
    with pytest.raises(InputError, match=r"r\.toml: key `inputs\.c\.subset\.0`: .*'colour'"):
        load_recipe(recipe)
    recipe.write_text(head + "groups = 8\nshuffle_seed = 1\nvisual_tier = [1]\n")
    with pytest.raises(InputError, match="did you mean `visual_tiers`"):
        load_recipe(recipe)
    recipe.write_text(head + "path = 'cases.parquet'\nkinds = ['conflict']\n")
    entry = load_recipe(recipe).inputs["c"]
    assert entry.path == tmp_path / "cases.parquet"
    assert entry.style is None


# Files.


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes") / "cases.parquet"
    scenes = make_scenes("paper", groups=9, seed=3, visual_tiers=[5, 7])
    write_scenes(path, scenes, made={"seed": 3})
    return path


def test_a_file_gives_back_cases_and_pixels(written: Path) -> None:
    scenes, found = (
        make_scenes("paper", groups=9, seed=3, visual_tiers=[5, 7]),
        read_scenes(written),
    )
    for name, column in scenes.cases.columns().items():
        read = getattr(found.cases, name)
        np.testing.assert_array_equal(read, column, err_msg=name)
        assert read.dtype == column.dtype
    assert found.cases.candidates == scenes.cases.candidates
    for number in (0, 3, 20):
        np.testing.assert_array_equal(found.image(number), scenes.image(number))
    # Each picture is held about once, not once a case.
    assert written.stat().st_size < 2 * sum(map(len, found.pictures.values()))


def test_other_tools_read_the_images(written: Path) -> None:
    from PIL import Image as pillow

    table = pyarrow.parquet.read_table(written)
    row = table.slice(7, 1).to_pylist()[0]
    picture = written.with_suffix(".png")
    picture.write_bytes(row["image"]["bytes"])
    with pillow.open(picture) as opened:
        assert opened.size == (224, 224)
        assert opened.format == "PNG"


def test_writing_twice_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.parquet"
    scenes = make_scenes("paper", groups=9, seed=3, visual_tiers=[5, 7])
    write_scenes(again, scenes, made={"seed": 3})
    assert again.read_bytes() == written.read_bytes()
    assert list(tmp_path.iterdir()) == [again]


def test_a_set_is_read_from_a_file(written: Path) -> None:
    table = {"mode": "scenes", "path": written, "visual_tiers": [7], "kinds": ["conflict"]}
    made = build_set("c", InputTable.model_validate(table), Words())
    assert made.samples == 27
    assert made.description == "27 cases of colour in 9 groups over 9 images, from cases.parquet"
    for change, message in (
        ({"visual_tiers": [6]}, r"key `inputs.c.visual_tiers`: has none of 6; it has 5, 7"),
        ({"subset": ["shape"]}, r"has none of shape; it has colour"),
        ({"path": written.with_name("none.parquet")}, "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            build_set("c", InputTable.model_validate({**table, **change}), Words())


def test_a_changed_picture_is_another_set(written: Path, tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(written)
    rows = table.to_pylist()
    last = rows[-1]["image_number"]
    for row in rows:
        if row["image_number"] == last:
            row["image"]["bytes"] = png_bytes(np.zeros((4, 4, 3), np.uint8))
    other = tmp_path / "other.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), other)
    digests = [
        build_set("c", InputTable.model_validate({"mode": "scenes", "path": p}), Words()).digest
        for p in (written, other)
    ]
    assert digests[0] != digests[1]


def test_files_of_another_kind_are_refused(written: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), plain)
    with pytest.raises(InputError, match="was not written by `phasescope scenes`"):
        read_scenes(plain)
    less = tmp_path / "less.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(written).drop_columns(["kind"]), less)
    with pytest.raises(InputError, match="has no column `kind`"):
        read_scenes(less)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(written.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        read_scenes(broken)


def test_without_pillow_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: Path
) -> None:
    found = read_scenes(written)
    monkeypatch.setattr("runs.packages._installed", lambda name: None)
    for call in (
        lambda: found.image(0),
        lambda: write_scenes(tmp_path / "x.parquet", found, made={}),
    ):
        with pytest.raises(InputError, match=r"pip install 'phasescope\[vision\]'"):
            call()
    assert not list(tmp_path.iterdir())


# The command.


def test_the_command_writes_a_file_and_a_sheet(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    out, sheet = tmp_path / "new" / "x.parquet", tmp_path / "sheet.png"
    code, said, _ = cli(
        "scenes", out, "--groups", 2, "--tiers", "5,7", "--seed", 3, "--sheet", sheet
    )
    assert code == 0
    assert "24 cases of 2 groups over 8 images" in said
    assert len(read_scenes(out).cases) == 24
    assert sheet.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("x.csv",), "give a name that ends in .parquet"),
        (("x.parquet", "--tiers", "a"), "--tiers is a; give tiers"),
        (("x.parquet", "--tiers", "20"), "0 to 13"),
        (("x.parquet", "--style", "big"), "give paper or tiny"),
        (("x.parquet", "--subset", "size"), "name each of colour, shape"),
        (("x.parquet", "--sheet", "x.jpg", "--tiers", "5"), "ends in .png"),
    ],
)
def test_the_command_refuses_in_one_line(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    name, *rest = options
    code, _, err = cli("scenes", tmp_path / name, "--groups", 2, *rest)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
