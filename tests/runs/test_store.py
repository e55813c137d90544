"""Opening stores that are whole, half written, damaged, or something else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from runs import open_store
from runs.errors import InputError
from runs.jobs import execute
from runs.recipe import load_recipe
from runs.writing import MISSING, StoreWriter

THIN = "set speeches: N/d = 0.6, so RankMe reads low; compare its levels only at equal N/d"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, series_folder: Path) -> Path:
    from tests.runs.conftest import recipe_text, speeches

    folder = tmp_path_factory.mktemp("made")
    rows = [json.dumps({"text": t, "party": "A"}) for t in speeches(20)]
    (folder / "speeches.jsonl").write_text("\n".join(rows))
    recipe = folder / "recipe.toml"
    recipe.write_text(
        recipe_text(series_folder, steps="steps = [1, 4]", measures='names = ["loss"]')
    )
    execute(load_recipe(recipe))
    return folder / "tiny.zarr"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy.zarr"))


def test_it_is_lazy_and_labelled(store: Path) -> None:
    tree = open_store(store)
    hidden = tree["sets/speeches/hidden"]["hidden"]
    assert hidden.dims == ("checkpoint", "layer", "point", "feature")
    assert hidden.chunks is not None
    assert hidden["checkpoint"].values.tolist() == ["main/step1", "main/step4"]
    assert hidden["step"].values.tolist() == [1, 4]
    assert tree.attrs["name"] == "tiny"
    assert tree.attrs["warnings"] == [THIN]
    assert tree["sets/speeches/points"]["party"].values.tolist() == ["A"] * 20
    assert "torch" in tree.attrs["versions"]


def test_unfinished_cells_are_not_shown(store: Path) -> None:
    writer = StoreWriter(store)
    writer.set_cell("speeches/hidden", "main/step1", status=MISSING)
    tree = open_store(store)
    assert tree["sets/speeches/hidden"]["checkpoint"].values.tolist() == ["main/step4"]
    assert tree["sets/speeches/tokens"]["checkpoint"].values.tolist() == [
        "main/step1",
        "main/step4",
    ]
    assert tree.attrs["warnings"] == ["1 checkpoints are not finished: run the recipe again", THIN]


def test_branches_are_sorted_by_tokens(store: Path) -> None:
    from runs.series import Checkpoint

    writer = StoreWriter(store)
    nowhere = Path("nowhere")
    writer.add_checkpoints(
        [Checkpoint(nowhere, 9, 90, "sft"), Checkpoint(nowhere, 2, 512), Checkpoint(nowhere, 0, 0)]
    )
    tree = open_store(store)
    labels = ["main/step0", "main/step1", "main/step2", "main/step4", "sft/step9"]
    assert tree["checkpoints"]["checkpoint"].values.tolist() == labels
    assert tree["sets/speeches/hidden"].sizes["checkpoint"] == 2


def test_an_axis_that_grew_without_labels_is_filled_by_the_next_run(store: Path) -> None:
    from runs.series import Checkpoint

    group = zarr.open_group(store, mode="r+")
    for name in ("status", "error", "step", "checkpoint"):
        array = group[f"checkpoints/{name}"]
        array.resize((3, *array.shape[1:]))
    assert open_store(store)["checkpoints"].sizes["checkpoint"] == 2
    StoreWriter(store).add_checkpoints([Checkpoint(Path("x"), 8, 2048)])
    tree = open_store(store)
    assert tree["checkpoints"]["step"].values.tolist() == [1, 4, 8]
    assert tree["checkpoints"]["status"].values[2].tolist() == [MISSING] * 4


def test_drafts_of_the_killed_are_passed_over_and_swept(store: Path) -> None:
    draft = store / "sets" / "speeches" / "tokens" / "zarr.0123.partial"
    draft.write_text("{")
    with pytest.warns(zarr.errors.ZarrUserWarning, match="partial"):
        list(zarr.open_group(store, path="sets/speeches/tokens", mode="r").members())
    assert "tokens" in open_store(store)["sets/speeches"].children
    writer = StoreWriter(store)
    with writer.claim("a cell of somebody alive").wait():
        writer.tidy()
        assert draft.exists()  # it may be theirs
        os.utime(draft, (0, 0))
        writer.tidy()
        assert not draft.exists()
    draft.write_text("{")
    writer.tidy()
    assert not draft.exists()


def test_a_measure_written_by_half_is_not_there(store: Path) -> None:
    assert "measures" in open_store(store).children
    zarr.open_group(store / "measures/loss/surprisal/speeches", mode="r+").attrs.pop("complete")
    assert "measures" not in open_store(store).children


def test_other_tokens_for_a_known_checkpoint_are_refused(store: Path) -> None:
    from runs.series import Checkpoint

    with pytest.raises(
        InputError, match="main/step4 has 1024 tokens in the store and 4 in the series"
    ):
        StoreWriter(store).add_checkpoints([Checkpoint(Path("x"), 4, 4)])


def spoil(store: Path, how: str) -> None:
    if how == "root":
        (store / "zarr.json").write_text("{")
    elif how == "array":
        (store / "sets/speeches/hidden/hidden/zarr.json").write_text('{"zarr_format": 3}')
    elif how == "status":
        shutil.rmtree(store / "checkpoints/status")
    elif how == "chunk":
        next((store / "checkpoints/step/c").rglob("0")).write_bytes(b"junk")
    elif how == "schema":
        root = zarr.open_group(store, mode="r+")
        root.attrs["identity"] = {**dict(root.attrs["identity"]), "schema": "99"}
    else:
        shutil.rmtree(store / "checkpoints")


@pytest.mark.parametrize("how", ["root", "array", "status", "chunk", "schema", "checkpoints"])
def test_a_damaged_store_is_one_line(store: Path, how: str) -> None:
    spoil(store, how)
    with pytest.raises(InputError, match=r"damaged|newer|holds no checkpoint") as caught:
        open_store(store)
    line = str(caught.value)
    assert str(store) in line
    assert "\n" not in line


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a store"):
        open_store(tmp_path / "nowhere.zarr")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a store and not empty"):
        StoreWriter(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_is_one_line_and_loses_nothing(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    recipe = load_recipe(write_recipe(steps="steps = [0, 1, 2]"))
    real, calls = StoreWriter.write, []

    def full(self: StoreWriter, label: str, checkpoint: str, arrays: dict[str, np.ndarray]) -> None:
        calls.append(checkpoint)
        if checkpoint == "main/step1":
            from runs.damage import named_errors

            with named_errors(self.path):
                raise OSError(errno.ENOSPC, "No space left on device")
        real(self, label, checkpoint, arrays)

    monkeypatch.setattr(StoreWriter, "write", full)
    with pytest.raises(InputError, match="the disk is full; free space and run again"):
        execute(recipe)
    kept = open_store(recipe.store)["sets/speeches/hidden"]["checkpoint"].values.tolist()
    assert kept == ["main/step0"]
    monkeypatch.setattr(StoreWriter, "write", real)
    assert execute(recipe).captured == 2


def test_too_little_space_is_seen_before_anything_runs(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import collections

    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 10))
    with pytest.raises(InputError, match="are free; free space"):
        execute(load_recipe(write_recipe()))
