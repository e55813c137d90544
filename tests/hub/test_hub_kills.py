"""A run on a hub killed with SIGKILL at any moment goes on, within its budget, to the same bytes."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from runs.hub import listing
from runs.leases import is_stale
from runs.writing import DONE, FAILED
from tests.hub.doors import STEPS, Cli, Door, open_door
from tests.hub.processes import Watched, bytes_of, finish, kill, start
from tests.hub.server import Hub
from tests.runs.conftest import sets_digest

RATE = 100_000  # bytes a second: kills fall into fetches, too


def budget_of(door: Door, checkpoints: int) -> int:
    size = sum(f.stat().st_size for f in (door.checkpoints / "step1").glob("*.safetensors"))
    return checkpoints * size + 60_000


def settled(door: Door) -> set[str]:
    """Commits of which every cell is captured now."""
    import zarr

    try:
        group = zarr.open_group(door.store / "checkpoints", mode="r")
        status, labels, commits = (group[n][:] for n in ("status", "checkpoint", "commit"))
    except (OSError, KeyError, ValueError):
        return set()
    rows = zip(labels.tolist(), status.tolist(), commits.tolist(), strict=False)
    return {c for label, row, c in rows if label and row and all(v in (DONE, FAILED) for v in row)}


def killed_runs(door: Door, kills: int, workers: int, seed: int) -> None:
    """Kill so many runs, each at a moment of its own, then let one end; checks that hold meanwhile."""
    budget = budget_of(door, 2)
    recipe = door.recipe(f'keep = "none"\nprefetch = 2\ndisk_budget = {budget / 1e9!r}')
    generator = random.Random(seed)
    words = ("run", recipe, "--workers", workers)
    partly = resumed = 0
    with Watched(door.cache) as watched:
        number = 0
        while number < kills:
            before, at = settled(door), len(door.hub.records)
            process = start(door, *words)
            # Half of the moments are told by what is fetched, the others by the clock.
            if number % 2 == 0 or kills < 5:
                until = time.monotonic() + 60
                while process.poll() is None and time.monotonic() < until:
                    fresh = [r for r in door.hub.records[at:] if r.path.endswith(".safetensors")]
                    if any(r.kind == "cdn" and r.sent > 20_000 for r in fresh):
                        break
                    time.sleep(0.01)
                time.sleep(generator.uniform(0, 0.8 if kills > 5 else 0.2))
            else:
                time.sleep(generator.uniform(2, 12))
            number += kill(process)
            partly += bool(list(door.cache.glob("models--*/blobs/*.incomplete")))
            fetched = {r.revision for r in door.hub.records[at:] if r.path.endswith(".safetensors")}
            assert not fetched & before
            # Begin again, so that every kill falls into work.
            if number < kills and len(settled(door)) == len(STEPS):
                shutil.rmtree(door.store)
        before, at = settled(door), len(door.hub.records)
        finish(start(door, *words))
        fetched = {r.revision for r in door.hub.records[at:] if r.path.endswith(".safetensors")}
        assert not fetched & before
        # Once more: everything is there, and a kill in the last moments leaves nothing for good.
        at = len(door.hub.records)
        if kills > 5:
            finish(start(door, *words))
        assert not [r for r in door.hub.records[at:] if r.path.endswith(".safetensors")]
    resumed = sum(
        r.kind == "cdn" and r.range is not None and r.path.endswith(".safetensors")
        for r in door.hub.records
    )
    assert watched.most <= budget
    assert partly
    assert resumed
    assert bytes_of(door.cache) < 60_000
    assert not list(door.cache.glob("models--*/blobs/*.incomplete"))
    place = door.cache / ".phasescope"
    assert not [p for p in place.glob("use *.lease") if is_stale(p)]
    assert len(list(place.glob("*"))) < 10 + kills  # drafts of one moment, swept when they are old
    listing._asked.clear()
    code, _, err = door.cli("run", door.local_recipe())
    assert (code, err) == (0, "")
    assert sets_digest(door.store) == sets_digest(door.folder / "local.zarr")


@pytest.mark.slow
def test_two_kills(door: Door) -> None:
    door.hub.rate = RATE
    killed_runs(door, 2, 1, seed=0)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("workers", "sharded"), [(1, True), (2, False)])
def test_thirty_kills(hub: Hub, tmp_path: Path, cli: Cli, workers: int, sharded: bool) -> None:
    door = open_door(hub, tmp_path, cli, sharded=sharded)
    door.hub.rate = RATE
    killed_runs(door, 30, workers, seed=workers)


def test_a_kill_between_the_last_cell_and_its_eviction_leaves_nothing(door: Door) -> None:
    """Weights, half files and blobs without a link, as such a kill leaves them."""
    recipe = door.recipe('keep = "none"')
    listing._asked.clear()
    assert door.cli("run", door.recipe(name="kept.toml"))[0] == 0  # fetched, captured, and kept
    folder = next(door.cache.glob("models--*"))
    snapshots = sorted((folder / "snapshots").iterdir())
    (snapshots[0] / "model.safetensors").unlink()  # its blob stays
    gone = snapshots[1] / "model.safetensors"
    blob = gone.resolve()
    gone.unlink()
    blob.rename(blob.with_name(blob.name + ".phasescope.incomplete"))
    assert bytes_of(door.cache) > 100_000
    listing._asked.clear()
    assert door.cli("run", recipe)[0] == 0
    assert bytes_of(door.cache) < 60_000
    assert not list((door.cache / ".phasescope").glob("*.files"))
