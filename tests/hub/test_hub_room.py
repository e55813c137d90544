"""One cache and its disk, shared by processes, shards and stores; full, read-only, or elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runs.checkpoints import Checkpoint
from runs.errors import HubError
from runs.fetching import Fetcher
from runs.hub import listing
from runs.hub.cache import here
from runs.hub.listing import files_at, needed
from runs.hub.room import Room
from runs.recipe import SeriesTable
from runs.writing import DONE
from tests.hub.doors import STEPS, Door
from tests.hub.processes import Watched, bytes_of, finish, kill, start
from tests.hub.series import PYTHIA
from tests.runs.conftest import sets_digest

Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts small disks, and takes them away again."""
    made: list[Path] = []

    def small(place: Path, size: str) -> None:
        place.mkdir(parents=True, exist_ok=True)
        found = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True
        )
        if found.returncode:
            pytest.skip(f"no disk can be mounted here: {found.stderr.decode().strip()}")
        made.append(place)

    yield small
    for place in made:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


def ok(door: Door, *words: object) -> str:
    listing._asked.clear()
    code, out, err = door.cli(*words)
    assert (code, err) == (0, ""), err
    return out


def refused(door: Door, *words: object) -> str:
    listing._asked.clear()
    code, _, err = door.cli(*words)
    assert (code, err.count("\n")) == (2, 1), err
    return err


def weights(door: Door) -> list[str]:
    return [f"{r.revision} {r.path}" for r in door.hub.downloads(".safetensors")]


def size_of(door: Door) -> int:
    return (door.checkpoints / "step1" / "model.safetensors").stat().st_size


def series(door: Door) -> list[Checkpoint]:
    folder = door.cache / f"models--{PYTHIA.replace('/', '--')}"
    branches = door.hub.repository(PYTHIA).branches
    return [
        Checkpoint(
            folder, s, s, revision=f"step{s}", repository=PYTHIA, commit=branches[f"step{s}"]
        )
        for s in STEPS
    ]


def table(**options: object) -> SeriesTable:
    return SeriesTable.model_validate({"kind": "pythia", "size": "14m", **options})


@pytest.mark.slow
def test_two_shards_at_once_and_then_the_whole(door: Door) -> None:
    recipe = door.recipe('keep = "none"\nprefetch = 2')
    shards = [start(door, "run", "--shard", f"{i}/2", recipe) for i in (1, 2)]
    for shard in shards:
        finish(shard)
    assert sorted(weights(door)) == sorted(set(weights(door)))
    assert len(weights(door)) == len(STEPS)
    ok(door, "run", recipe)
    assert len(weights(door)) == len(STEPS)
    assert bytes_of(door.cache) < 60_000
    ok(door, "run", door.local_recipe())
    assert sets_digest(door.store) == sets_digest(door.folder / "local.zarr")


@pytest.mark.slow
def test_two_stores_on_one_cache_do_not_disturb_each_other(door: Door) -> None:
    door.hub.rate = 400_000
    recipe = door.recipe('keep = "none"\nprefetch = 1')
    other = door.folder / "other.toml"
    other.write_text(recipe.read_text().replace("store.zarr", "other.zarr"))
    for process in [start(door, "run", recipe), start(door, "run", other)]:
        finish(process)
    assert sets_digest(door.store) == sets_digest(door.folder / "other.zarr")
    assert bytes_of(door.cache) < 60_000


@pytest.mark.slow
def test_workers_within_a_budget(door: Door) -> None:
    budget = 2 * size_of(door) + 60_000
    recipe = door.recipe(f'keep = "none"\nprefetch = 2\ndisk_budget = {budget / 1e9!r}')
    with Watched(door.cache) as watched:
        finish(start(door, "run", "--workers", 2, recipe))
    assert watched.most <= budget
    assert len(weights(door)) == len(STEPS)
    assert set(door.statuses()) == {DONE}


def test_what_another_uses_is_not_evicted(door: Door) -> None:
    first, second = (Fetcher(table(keep="none"), series(door)) for _ in range(2))
    one = series(door)[1]
    assert first.bring(one) == second.bring(one)
    first.finished(one)
    assert here(one) is not None
    second.finished(one)
    assert here(one) is None
    assert len(weights(door)) == 1
    first.close()
    second.close()


def test_a_long_download_of_another_is_not_tidied_away(door: Door) -> None:
    """Its list of files is older than a lease lives without a heartbeat."""
    one = series(door)[1]
    folder = one.path
    files = needed(files_at(PYTHIA, one.commit))
    room = Room(door.cache, frozenset({folder}))
    use = room.admit(folder, one.commit, files)
    assert use is not None
    digest = next(f.digest for f in files if f.is_weights)
    partial = folder / "blobs" / f"{digest}.phasescope.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"half")
    for file in room.place.iterdir():
        os.utime(file, (time.time() - 3600,) * 2)
    other = Room(door.cache, frozenset({folder}), budget=1.5 * size_of(door))
    assert other.tidy() == 0
    assert partial.exists()
    two = series(door)[2]
    assert other.admit(folder, two.commit, needed(files_at(PYTHIA, two.commit))) is None
    use.release()
    assert other.tidy() == 1


def test_half_a_checkpoint_makes_room_for_others(door: Door) -> None:
    """A killed run left it, and another one captured it elsewhere."""
    checkpoints = series(door)
    left = Fetcher(table(), checkpoints)
    left.bring(checkpoints[0])
    left.close()
    (next((checkpoints[0].path / "snapshots").iterdir()) / "model.safetensors").unlink()
    budget = (size_of(door) + 60_000) / 1e9
    fetcher = Fetcher(
        table(disk_budget=budget), checkpoints, is_needed=lambda c: c is not checkpoints[0]
    )
    fetcher.bring(checkpoints[1])
    fetcher.close()
    assert bytes_of(door.cache) <= budget * 1e9


@pytest.mark.slow
def test_a_dead_worker_on_a_claim_does_not_block_others(door: Door) -> None:
    door.hub.fail("slow", kind="cdn", file="*.safetensors", rate=20_000, times=1)
    budget = (size_of(door) + 60_000) / 1e9
    recipe = door.recipe(f'keep = "none"\nprefetch = 0\ndisk_budget = {budget!r}')
    process = start(door, "run", recipe)
    door.hub.wait_for(".safetensors", 10_000, seconds=60)
    kill(process)
    assert list((door.cache / ".phasescope").glob("use *.lease"))
    ok(door, "run", recipe)
    assert not list((door.cache / ".phasescope").glob("use *.lease"))
    assert set(door.statuses()) == {DONE}


def test_a_small_disk_is_enough_for_one_after_another(door: Door, mount: Mount) -> None:
    size = size_of(door)
    mount(door.cache, f"{2 * size + 250_000}")
    ok(door, "run", door.recipe('keep = "none"\nprefetch = 3'))
    assert len(weights(door)) == len(STEPS)
    assert set(door.statuses()) == {DONE}


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    door: Door, mount: Mount
) -> None:
    mount(door.cache, "160k")
    recipe = door.recipe('keep = "none"')
    err = refused(door, "run", recipe)
    assert str(door.cache) in err
    assert "free space" in err
    assert set(door.statuses()) <= {0}
    remount(door.cache, "size=16m")
    ok(door, "run", recipe)
    assert set(door.statuses()) == {DONE}


def test_a_disk_that_fills_up_meanwhile(door: Door, mount: Mount) -> None:
    """By somebody else, in the middle of a download."""
    mount(door.cache, "1m")
    checkpoints = series(door)
    door.hub.fail("slow", kind="cdn", file="*.safetensors", rate=100_000, times=1)
    fetcher = Fetcher(table(keep="none"), checkpoints)
    filled = threading.Thread(target=_fill, args=(door,))
    filled.start()
    with pytest.raises(HubError, match=r"the disk is full.*free space"):
        fetcher.bring(checkpoints[1])
    filled.join()
    (door.cache / "others").unlink()
    assert fetcher.bring(checkpoints[1]).is_dir()
    fetcher.finished(checkpoints[1])
    fetcher.close()
    assert bytes_of(door.cache) < 60_000


def _fill(door: Door) -> None:
    door.hub.wait_for(".safetensors", 20_000)
    free = shutil.disk_usage(door.cache).free
    (door.cache / "others").write_bytes(bytes(free - 8192))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_store_s_disk_is_full(door: Door, mount: Mount, workers: int) -> None:
    store = door.folder / "disk"
    mount(store, "8m")
    recipe = door.recipe()
    recipe.write_text(recipe.read_text().replace('"store.zarr"', '"disk/store.zarr"'))
    ok(door, "fetch", recipe)
    free = shutil.disk_usage(store).free
    (store / "others").write_bytes(bytes(free - 250_000))
    err = refused(door, "run", recipe, "--workers", workers)
    assert str(store) in err
    assert "Traceback" not in err
    (store / "others").unlink()
    ok(door, "run", recipe)


@pytest.mark.parametrize("keep", ["all", "none"])
def test_a_cache_that_cannot_be_written_is_read(door: Door, mount: Mount, keep: str) -> None:
    """As the central one of a cluster."""
    mount(door.cache, "16m")
    recipe = door.recipe(f'keep = "{keep}"')
    ok(door, "fetch", recipe)
    there = sorted(p for p in door.cache.rglob("*") if "phasescope" not in str(p))
    remount(door.cache, "ro")
    door.hub.clear()
    ok(door, "run", recipe)
    assert door.hub.downloads() == []
    assert sorted(p for p in door.cache.rglob("*") if "phasescope" not in str(p)) == there
    assert set(door.statuses()) == {DONE}
    ok(door, "run", recipe)


def test_a_cache_that_cannot_be_written_and_lacks_something_is_one_line(
    door: Door, mount: Mount
) -> None:
    mount(door.cache, "16m")
    recipe = door.recipe('keep = "none"')
    ok(door, "fetch", recipe)
    snapshots = sorted(door.cache.glob("models--*/snapshots/*/model.safetensors"))
    snapshots[0].resolve().unlink()
    remount(door.cache, "ro")
    err = refused(door, "run", recipe)
    assert "series.cache" in err
    assert str(door.cache) in err
    assert sorted(door.statuses()).count(DONE) == 2 * (len(STEPS) - 1)


@pytest.mark.parametrize("link", ["pointer", "blob"])
def test_links_that_lead_elsewhere_are_never_removed(door: Door, link: str) -> None:
    recipe = door.recipe('keep = "none"')
    ok(door, "fetch", recipe)
    central = door.folder / "central"
    central.mkdir()
    for pointer in list(door.cache.glob("models--*/snapshots/*/model.safetensors")):
        blob = pointer.resolve()
        kept = central / blob.name
        if blob.exists():
            shutil.move(blob, kept)
        if link == "pointer":
            pointer.unlink()
            pointer.symlink_to(kept)
        else:
            blob.unlink(missing_ok=True)
            blob.symlink_to(kept)
    before = sorted(central.iterdir())
    ok(door, "run", recipe)
    assert sorted(central.iterdir()) == before
    assert all(p.exists() for p in door.cache.glob("models--*/snapshots/*/model.safetensors"))
    assert len(list(door.cache.glob("models--*/snapshots/*/model.safetensors"))) == len(STEPS)
