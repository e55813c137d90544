"""Whole or not at all."""

from pathlib import Path

import pytest

from runs.models.atomic import whole


def write_and_stop(target: Path) -> None:
    with whole(target) as partial:
        partial.write_text("ne")
        raise KeyboardInterrupt


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_and_stop(target)
    assert target.read_text() == "old"
    with whole(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_left_by_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    left = tmp_path / ".step.partial"
    left.mkdir()
    (left / "half").write_text("x")
    with whole(tmp_path / "step") as partial:
        partial.mkdir()
        (partial / "full").write_text("y")
    assert [p.name for p in tmp_path.rglob("*")] == ["step", "full"]
