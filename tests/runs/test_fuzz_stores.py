"""Damaged stores: every command ends, with numbers it could read or with one line."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.checkpoints import Checkpoint
from runs.damage import find_damage
from runs.jobs import execute
from runs.recipe import load_recipe
from runs.store import open_store
from runs.writing import StoreWriter
from tests.runs.conftest import recipe_text, sets_digest, speeches
from tests.runs.fuzzing import Cli, one_clear_line, profile

Damage = Callable[[st.DataObject, Path], None]
MEASURES = '["loss", "rankme", "alpha_req", "head_entropy/zhai2023", "next_token_accuracy"]'
COMMANDS = [
    *([("status",)] * 4),
    *([("measure", "rankme/roy2007", "next_token_accuracy", "linear_cka")] * 3),
    *([("measure", "head_entropy", "loss", "alpha_req")] * 2),
    *([("run",)] * 5),
    *(("figures", name) for name in ("phases", "heads", "profile")),
    *(("report",), ("study",), ("study",), ("verify",)),
]
ODD = st.sampled_from(
    [
        *(None, True, -1, 0, 1, 2**40, 1.5, "", "x", "NaN", "float64", "string", [], [0], [-1, 2]),
        *([1] * 12, ["checkpoint"], ["x", "x"], [None], {}, {"name": "x"}, {"a": {"b": []}}, "99"),
        *([{"name": "crc32c"}], [{"name": "bytes"}, {"name": "bytes"}], {"schema": "99"}, [[]]),
    ]
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, series_folder: Path) -> Path:
    """A folder with a recipe and its finished store, never touched: tests damage copies."""
    folder = tmp_path_factory.mktemp("fuzz") / "whole"
    folder.mkdir()
    rows = [
        {"text": t[: 60 + 5 * (i % 9)], "party": "AB"[i % 2]} for i, t in enumerate(speeches(20))
    ]
    (folder / "speeches.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = folder / "recipe.toml"
    recipe.write_text(
        recipe_text(series_folder, steps="steps = [1, 4]", measures=f"names = {MEASURES}")
    )
    execute(load_recipe(recipe))
    return folder


def copy(whole: Path, folder: Path) -> Path:
    """A copy of the store whose files are links: writers replace files, and so does damage."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder, copy_function=os.link)
    return folder / "tiny.zarr"


def put(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


@functools.cache
def places(store: Path) -> dict[str, list[Path]]:
    """Metadata, chunks and folders of a whole store, relative to it."""
    every = sorted(p.relative_to(store) for p in store.rglob("*"))
    folders = [p for p in every if (store / p).is_dir()]
    metadata = [p for p in every if p.name == "zarr.json"]
    return {
        "metadata": metadata,
        "folder": folders,
        "chunk": sorted({*every} - {*folders, *metadata}),
    }


def pick(data: st.DataObject, store: Path, kind: str = "") -> Path:
    """A place in a copy of the store."""
    kind = kind or data.draw(st.sampled_from(["metadata", "chunk"]))
    found = places(store.parent.with_name("whole") / store.name)[kind]
    return store / data.draw(st.sampled_from(found), label="where")


def spoil_bytes(data: st.DataObject, store: Path) -> None:
    path = pick(data, store)
    content = bytearray(path.read_bytes())
    how = data.draw(st.sampled_from(["cut", "empty", "noise", "flip", "grow"]))
    place = data.draw(st.integers(0, max(len(content) - 1, 0)))
    if how == "cut":
        content = content[:place]
    elif how == "empty":
        content = bytearray()
    elif how == "noise":
        content = bytearray(data.draw(st.binary(min_size=1, max_size=80)))
    elif how == "flip":
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        content += b"\0" * 7
    put(path, bytes(content))


def remove(data: st.DataObject, store: Path) -> None:
    if data.draw(st.booleans()):
        pick(data, store).unlink()
    else:
        shutil.rmtree(pick(data, store, "folder"))


def replace_by_folder(data: st.DataObject, store: Path) -> None:
    path = pick(data, store)
    path.unlink()
    path.mkdir()


def litter(data: st.DataObject, store: Path) -> None:
    folder = pick(data, store, "folder")
    name = data.draw(st.sampled_from(["zarr.0123.partial", "0.partial", ".DS_Store", "c", "notes"]))
    if not (folder / name).exists():
        if data.draw(st.booleans()):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data.draw(st.binary(max_size=9)))


def spoil_json(data: st.DataObject, store: Path) -> None:
    """Another value, or none, at one place of a node's metadata."""
    path = pick(data, store, "metadata")
    content = json.loads(path.read_text())
    place: Any = content
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not (isinstance(place[key], dict) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    if data.draw(st.integers(0, 3)) == 0:
        del place[key]
    else:
        place[key] = data.draw(ODD)
    put(path, json.dumps(content).encode())


def newer(data: st.DataObject, store: Path) -> None:
    path = store / "zarr.json"
    content = json.loads(path.read_text())
    content["attributes"]["identity"]["schema"] = data.draw(st.sampled_from(["99", "x", 99, None]))
    put(path, json.dumps(content).encode())


DAMAGES: list[Damage] = [
    *([spoil_bytes] * 4),
    *([spoil_json] * 5),
    *([remove] * 3),
    *(replace_by_folder, litter, newer),
]


def check(whole: Path, cli: Cli, examples: int) -> None:
    """The property on so many damaged copies: opening, and one command each."""

    folder = whole.with_name("copy")

    @profile(examples)
    @given(st.data())
    def hold(data: st.DataObject) -> None:
        store = copy(whole, folder)
        data.draw(st.sampled_from(DAMAGES), label="how")(data, store)
        command, *names = data.draw(st.sampled_from(COMMANDS), label="command")
        words: list[object] = [command, folder / "recipe.toml" if command == "run" else store]
        if command == "study":
            beside = [whole / store.name, "--name", "damaged", "--name", "whole"]
            words = ["figures", store, *beside, "--only", "phases"]
        code, _, err = cli(*words, *names)
        assert code in (0, 1, 2), err
        if code == 2:
            one_clear_line(err.removesuffix("\n").removeprefix("phasescope: "), folder)

    hold()


def test_commands_end_on_damaged_stores(whole: Path, cli: Cli) -> None:
    check(whole, cli, 10)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(2400)
def test_commands_end_on_five_hundred_damaged_stores(whole: Path, cli: Cli) -> None:
    check(whole, cli, 500)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    put(path, bytes(content))


@pytest.mark.parametrize(
    ("array", "measure"),
    [
        ("hidden/hidden", "rankme/roy2007"),
        ("moments/eigenvalues", "rankme_streamed"),
        ("attention/mean", "head_entropy/normalised_visible"),
        ("tokens/surprisal", "loss"),
        ("tokens/target_rank", "next_token_accuracy"),
    ],
)
def test_one_flipped_bit_of_a_finished_cell_is_never_a_number(
    whole: Path, cli: Cli, array: str, measure: str
) -> None:
    store = copy(whole, whole.with_name("copy"))
    shutil.rmtree(store / "measures")
    chunks = store / "sets/speeches" / array / "c"
    flip(next(p for p in sorted(chunks.rglob("*")) if p.is_file()))
    code, _, err = cli("measure", store, measure)
    assert code == 2, err
    assert f"sets/speeches/{array} of main/step1 is damaged" in err
    # The mend that the line names mends it, and leaves the rest alone.
    assert "run RECIPE --again main/step1" in err
    code, out, _ = cli("run", store.parent / "recipe.toml", "--again", "main/step1")
    assert code == 0
    assert "1 checkpoints captured" in out
    assert sets_digest(store) == sets_digest(whole / store.name)
    assert cli("measure", store, measure)[0] == 0


def test_a_damaged_measure_is_told_and_computed_again(whole: Path, cli: Cli) -> None:
    store = copy(whole, whole.with_name("copy"))
    node = "measures/loss/surprisal/speeches"
    before = open_store(store)[node].to_dataset()
    flip(next(p for p in sorted((store / node / "value/c").rglob("*")) if p.is_file()))
    code, out, _ = cli("status", store)
    assert code == 0
    assert f"{node} is damaged: `phasescope measure STORE` computes it again" in out
    assert node not in open_store(store).groups
    assert cli("measure", store, "loss")[0] == 0
    assert open_store(store)[node].to_dataset().equals(before)


def test_measures_of_fewer_checkpoints_are_no_damage(whole: Path) -> None:
    store = copy(whole, whole.with_name("copy"))
    assert find_damage(store) is None
    for path in (store / "checkpoints").rglob("zarr.json"):  # the copy's files are links
        put(path, path.read_bytes())
    StoreWriter(store).add_checkpoints([Checkpoint(Path("later"), 64, 64)])
    assert find_damage(store) is None
