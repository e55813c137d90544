"""Shards: parts of a series for a job that is started several times."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runs.errors import InputError
from runs.jobs import execute
from runs.recipe import load_recipe
from runs.shards import Shard, parse_shard
from runs.store import open_store
from tests.runs.conftest import STEPS, save_step, sets_digest
from tests.runs.test_killed import kill_group, start

Write = Callable[..., Path]
SHARDS = 4


def test_a_shard_is_read() -> None:
    assert parse_shard("1/1") == Shard(1, 1)
    assert parse_shard("3/8") == Shard(3, 8)


@pytest.mark.parametrize("text", ["", "/", "3", "0/8", "9/8", "1/0", "-1/8", "1/8/2", "a/b", "١/٢"])
def test_what_is_no_shard_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"--shard is .*give i/n with i from 1 to n") as caught:
        parse_shard(text)
    assert "\n" not in str(caught.value)


def test_shards_capture_their_own_and_compute_nothing(write_recipe: Write) -> None:
    path = write_recipe(capture='products = ["hidden", "tokens"]')
    recipe = load_recipe(path)
    execute(recipe)
    whole = sets_digest(recipe.store)
    shutil.rmtree(recipe.store)
    parts: list[int] = []
    for index in (2, 1):
        outcome = execute(recipe, shard=Shard(index, 2))
        parts.append(outcome.captured)
        assert outcome.measured == ()
        tree = open_store(recipe.store)
        assert "measures" not in tree.children
        done = tree["sets/speeches/hidden"]["step"].values.tolist()
        # The axis is whole from the start; the other half is not touched.
        assert tree["checkpoints"].sizes["checkpoint"] == len(STEPS)
        assert done == (list(STEPS[1::2]) if index == 2 else list(STEPS))
    assert parts == [3, 3]
    assert sets_digest(recipe.store) == whole
    last = execute(recipe)
    assert last.captured == 0
    assert last.measured == ("rankme/li2025/speeches", "loss/surprisal/speeches")


def test_a_shard_tells_only_its_own_failures(write_recipe: Write, own_series: Path) -> None:
    (own_series / f"step{STEPS[0]}" / "model.safetensors").write_bytes(b"not weights")
    recipe = load_recipe(write_recipe(own_series, capture='products = ["tokens"]'))
    assert list(execute(recipe, shard=Shard(1, 3)).failed) == ["main/step0"]
    assert execute(recipe, shard=Shard(2, 3)).failed == {}
    assert list(execute(recipe).failed) == ["main/step0"]


def test_more_shards_than_checkpoints_leave_some_with_nothing(write_recipe: Write) -> None:
    recipe = load_recipe(write_recipe(capture='products = ["tokens"]'))
    assert execute(recipe, shard=Shard(len(STEPS) + 1, len(STEPS) + 1)).captured == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_shards_end_with_the_arrays_of_one_process(
    write_recipe: Write, own_series: Path
) -> None:
    for step in range(20, 30):
        save_step(own_series, step)
    path = write_recipe(own_series)
    recipe = load_recipe(path)
    execute(recipe)
    undisturbed = sets_digest(recipe.store)
    shutil.rmtree(recipe.store)
    leases = recipe.store.with_name(recipe.store.name + ".leases")
    shards = [f"{i}/{SHARDS}" for i in range(1, SHARDS + 1)]
    processes = {shard: start(path, 1, "--shard", shard) for shard in shards}
    for shard in shards[:2]:
        wait_for_work(processes[shard], leases)
        kill_group(processes[shard])
        assert processes[shard].returncode == -9
        processes[shard] = start(path, 1, "--shard", shard)
    for process in processes.values():
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert sets_digest(recipe.store) == undisturbed
    # Two runs that find everything captured compute the measures once between them.
    last = [start(path, 1) for _ in range(2)]
    for process in last:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    outcome = execute(recipe)
    assert (outcome.captured, outcome.measured) == (0, ())
    assert {"rankme", "loss"} <= set(open_store(recipe.store)["measures"].children)
    assert sets_digest(recipe.store) == undisturbed
    assert list(leases.iterdir()) == []


def wait_for_work(process: subprocess.Popen[bytes], leases: Path) -> None:
    """Until the process has a lease on a checkpoint: from then on it is at work on it."""
    while process.poll() is None:
        for lease in leases.glob("main*.lease"):
            try:
                if json.loads(lease.read_text())["pid"] == process.pid:
                    return
            except FileNotFoundError:  # given back meanwhile
                continue
        time.sleep(0.01)
    pytest.fail("the shard ended before it was seen at work")
