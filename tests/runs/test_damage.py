"""A store is called damaged where that is shown, and nowhere else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import zarr

from runs.damage import find_damage, named_errors
from runs.errors import InputError
from runs.packages import PackageError
from runs.store import open_store
from runs.writing import StoreWriter


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "new.zarr"
    StoreWriter(path)._checkpoints()
    return path


def test_an_error_over_a_sound_store_is_not_its_damage(store: Path) -> None:
    said = r"new\.zarr: cannot be used \(KeyError: 'x'\)"
    with pytest.raises(InputError, match=said), named_errors(store):
        raise KeyError("x")


def test_an_error_over_what_is_no_store_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="axis"), named_errors(tmp_path):
        raise KeyError("axis")


@pytest.mark.parametrize("name", ["status", "branch", "checkpoint"])
def test_a_table_without_a_column_is_damage(store: Path, name: str) -> None:
    assert find_damage(store) is None
    shutil.rmtree(store / "checkpoints" / name)
    assert str(find_damage(store)) == f"checkpoints/{name}: is not there"
    with pytest.raises(InputError, match="the store is damaged"), named_errors(store):
        raise KeyError(name)


def test_a_library_that_fails_on_sound_data_is_named(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: Any) -> None:
        raise zarr.errors.GroupNotFoundError("No group found")

    for name in ("open", "open_group", "open_array"):
        monkeypatch.setattr(zarr, name, broken)
    said = r"^zarr [\d.]+ is installed and does not work \(No group found\); pip install"
    with pytest.raises(PackageError, match=said):
        find_damage(store)
    with pytest.raises(PackageError, match=said):
        StoreWriter(store)
    with pytest.raises(PackageError, match=said):
        open_store(store)
