"""Damaged caches of a hub: verification names what it cannot read, and every command ends."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runs.conftest import recipe_text, speeches
from tests.runs.fuzzing import Cli, one_clear_line, profile
from tests.runs.hub_cache import RATE, REPOSITORY, make_cache

ODD = st.sampled_from([None, True, -1, 0, 2**70, 1.5, "", "x", "../..", [], {}, {"a": 1}])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache and a recipe that reads it, never touched: tests damage copies."""
    folder = tmp_path_factory.mktemp("fuzz") / "whole"
    make_cache(folder / "hub")
    rows = [{"text": text[:80], "party": "AB"[i % 2]} for i, text in enumerate(speeches(20))]
    (folder / "speeches.jsonl").write_text("\n".join(map(json.dumps, rows)))
    local = f'path = "series"\ntokens_per_step = {RATE}'
    hub = f'kind = "hub"\nrepository = "{REPOSITORY}"\ncache = "hub"\ntokens_per_step = {RATE}'
    text = recipe_text(Path("series"))
    assert local in text
    (folder / "recipe.toml").write_text(text.replace(local, hub))
    return folder


def copy(whole: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder, symlinks=True, copy_function=_link)
    return folder / "hub" / f"models--{REPOSITORY.replace('/', '--')}"


def _link(source: str, target: str) -> None:
    os.link(source, target, follow_symlinks=False)


def put(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def pick(data: st.DataObject, files: list[Path]) -> Path:
    return files[data.draw(st.integers(0, len(files) - 1))]


def spoil(data: st.DataObject, repository: Path) -> None:
    """One file of the cache cut, noisy, missing, a folder, another's, or JSON of another shape."""
    every = [p for p in sorted(repository.rglob("*")) if p.is_symlink() or p.is_file()]
    apt = [p for p in every if p.suffix in (".json", "") and p.parent.name != "blobs"]
    path = pick(data, every if data.draw(st.integers(0, 2)) == 0 else apt)
    how = data.draw(
        st.sampled_from(["cut", "noise", "gone", "folder", "other", "json", "json", "json"])
    )
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "other":
        put(path, pick(data, every).read_bytes())
    elif how == "noise":
        put(path, data.draw(st.binary(max_size=60)))
    elif how == "json" and path.suffix == ".json":
        table = json.loads(content)
        table[data.draw(st.sampled_from(sorted(table)))] = data.draw(ODD)
        put(path, json.dumps(table).encode())
    else:
        put(path, content[: data.draw(st.integers(0, len(content)))])


def check(whole: Path, cli: Cli, examples: int) -> None:
    folder = whole.with_name("copy")

    @profile(examples)
    @given(st.data())
    def hold(data: st.DataObject) -> None:
        repository = copy(whole, folder)
        spoil(data, repository)
        command = data.draw(st.sampled_from(["plan", "verify", "verify", "folder"]))
        words = ("verify", repository) if command == "folder" else (command, folder / "recipe.toml")
        code, _, err = cli(*words)
        assert code in (0, 1, 2), err
        if code == 2:
            one_clear_line(err.removesuffix("\n").removeprefix("phasescope: "), folder)

    hold()


def test_commands_end_on_damaged_caches(whole: Path, cli: Cli) -> None:
    check(whole, cli, 20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands_end_on_three_hundred_damaged_caches(whole: Path, cli: Cli) -> None:
    check(whole, cli, 300)
