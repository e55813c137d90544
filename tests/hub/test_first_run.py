"""The first real run: from an empty cache to measures, and from the store alone ever after."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from runs.hub import listing
from runs.store import open_store
from runs.writing import DONE
from tests.hub.doors import STEPS, Door
from tests.hub.series import FINEWEB, PYTHIA, publish_series, pythia_steps
from tests.runs.conftest import sets_digest


def ok(door: Door, *words: object) -> str:
    listing._asked.clear()
    code, out, err = door.cli(*words)
    assert (code, err) == (0, ""), err
    return out


def weights(door: Door) -> list[str]:
    """Revisions and files of weights that were sent, from the CDN or the hub itself."""
    return [f"{r.revision} {r.path}" for r in door.hub.downloads(".safetensors")]


def bytes_on_disk(cache: Path) -> int:
    sizes = []
    for file in cache.glob("models--*/blobs/*"):
        try:
            sizes.append(file.lstat().st_size)
        except FileNotFoundError:
            continue
    return sum(sizes)


def test_plan_and_run_begin_on_an_empty_cache_and_end_as_a_local_folder(door: Door) -> None:
    recipe = door.recipe()
    out = ok(door, "plan", recipe)
    assert "asked the hub for the revisions of EleutherAI/pythia-14m" in out
    assert "from its config.json" in out
    assert weights(door) == []
    assert bytes_on_disk(door.cache) < 50_000  # one configuration, one tokenizer
    out = ok(door, "run", recipe)
    assert f"captured main/step4, {len(STEPS)}/{len(STEPS)}" in out
    assert len(weights(door)) == len(STEPS)
    ok(door, "run", door.local_recipe())
    hub, local = sets_digest(door.store), sets_digest(door.folder / "local.zarr")
    assert hub == local
    tree = open_store(door.store)
    assert (tree["checkpoints"]["status"] == DONE).all()
    commits = door.hub.repository(PYTHIA).branches
    found = tree["checkpoints"]
    for step in STEPS:
        assert found["commit"].sel(checkpoint=f"main/step{step}") == commits[f"step{step}"]


@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("reachable", [True, False])
def test_a_finished_run_goes_on_from_the_store_alone(
    door: Door, emptied: bool, reachable: bool
) -> None:
    recipe = door.recipe('keep = "none"\nprefetch = 2')
    ok(door, "run", recipe)
    before = sets_digest(door.store)
    if emptied:
        shutil.rmtree(door.cache)
    door.hub.clear()
    if not reachable:
        door.hub.fail("dropped")
    out = ok(door, "run", recipe)
    assert "0 checkpoints captured" in out
    assert door.hub.downloads() == []
    assert sets_digest(door.store) == before
    # Another measure is computed from what was captured.
    text = recipe.read_text().replace('"loss"]', '"loss", "alpha_req"]')
    recipe.write_text(text)
    assert "1 measures computed" in ok(door, "run", recipe)
    assert door.hub.downloads() == []


def test_what_is_captured_is_never_fetched_again(door: Door) -> None:
    """Half of a series, then all of it on an empty cache."""
    recipe = door.recipe('keep = "none"')
    text = recipe.read_text()
    recipe.write_text(text.replace("steps = [0, 1, 2, 4]", "steps = [1, 4]"))
    ok(door, "run", recipe)
    shutil.rmtree(door.cache)
    door.hub.clear()
    recipe.write_text(text)
    ok(door, "run", recipe)
    sent = {record.revision for record in door.hub.downloads(".safetensors")}
    commits = door.hub.repository(PYTHIA).branches
    assert sent == {commits["step0"], commits["step2"]}


@pytest.mark.parametrize(
    ("room", "prefetch"),
    [
        (1, 1),
        (2, 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 0), (1, 3), (2, 0), (2, 1))),
    ],
)
def test_the_budget_holds_at_every_moment(door: Door, room: int, prefetch: int) -> None:
    size = (door.checkpoints / "step1" / "model.safetensors").stat().st_size
    budget = (room * size + 60_000) / 1e9
    door.hub.fail("slow", kind="cdn", file="*.safetensors", rate=size * 4)
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            most.append(bytes_on_disk(door.cache))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        recipe = door.recipe(f'keep = "none"\nprefetch = {prefetch}\ndisk_budget = {budget!r}')
        ok(door, "run", recipe)
    finally:
        done.set()
        watcher.join()
    assert size < max(most) <= budget * 1e9
    assert len(weights(door)) == len(STEPS)  # each once
    assert bytes_on_disk(door.cache) < 60_000


def test_a_budget_that_is_too_small_is_one_line(door: Door) -> None:
    code, _, err = door.cli("run", door.recipe('keep = "none"\ndisk_budget = 0.00003'))
    assert code == 2
    assert "series.disk_budget" in err
    assert err.count("\n") == 1
    assert set(door.statuses()) <= {0}


def test_kept_checkpoints_make_room_for_others(door: Door) -> None:
    """With a budget, what the store has may go, whoever fetched it."""
    size = (door.checkpoints / "step1" / "model.safetensors").stat().st_size
    ok(door, "fetch", door.recipe())
    assert bytes_on_disk(door.cache) > len(STEPS) * size
    budget = (2 * size + 60_000) / 1e9
    door.hub.clear()
    ok(door, "run", door.recipe(f"disk_budget = {budget!r}"))
    assert weights(door) == []


@pytest.mark.slow
def test_workers_fetch_each_checkpoint_once(door: Door) -> None:
    recipe = door.recipe('keep = "none"\nprefetch = 2')
    ok(door, "run", "--workers", 2, recipe)
    assert len(weights(door)) == len(STEPS)
    ok(door, "run", door.local_recipe())
    assert sets_digest(door.store) == sets_digest(door.folder / "local.zarr")


def test_shards_and_then_the_whole(door: Door) -> None:
    recipe = door.recipe('keep = "none"')
    for shard in ("1/2", "2/2"):
        shutil.rmtree(door.cache, ignore_errors=True)  # nodes with disks of their own
        ok(door, "run", "--shard", shard, recipe)
    shutil.rmtree(door.cache)
    assert len(weights(door)) == len(STEPS)
    assert "2 measures computed" in ok(door, "run", recipe)
    assert len(weights(door)) == len(STEPS)


def test_sharded_weights_and_a_repository_in_pages(door: Door) -> None:
    door.hub.page_size = 2
    publish_series(door.hub, PYTHIA, pythia_steps(door.folder / "sharded", STEPS, sharded=True))
    ok(door, "run", door.recipe())
    assert len(weights(door)) == 2 * len(STEPS)


def test_a_node_without_a_network_runs_what_was_fetched(door: Door) -> None:
    recipe = door.recipe()
    ok(door, "fetch", recipe)
    door.hub.clear()
    door.hub.fail("dropped")
    ok(door, "run", recipe)
    assert door.hub.downloads() == []


def test_a_branch_that_has_moved_is_told_and_not_mixed(door: Door) -> None:
    recipe = door.recipe('keep = "none"')
    text = recipe.read_text()
    recipe.write_text(text.replace("steps = [0, 1, 2, 4]", "steps = [0, 1, 2]"))
    ok(door, "run", recipe)
    pinned = door.hub.repository(PYTHIA).branches["step1"]
    # Step 1 moves to other weights after it was captured, and is captured no more.
    door.hub.repository(PYTHIA).move("step1", door.checkpoints / "step4")
    recipe.write_text(text)
    out = ok(door, "run", recipe)
    assert f"main/step1: step1 of {PYTHIA} has moved since this store was begun" in out
    found = open_store(door.store)["checkpoints"]
    assert found["commit"].sel(checkpoint="main/step1") == pinned
    assert "has moved" in ok(door, "plan", recipe)
    assert "has moved" in ok(door, "verify", recipe)


def test_a_moved_branch_is_fetched_at_its_pinned_commit(door: Door) -> None:
    """Moved between the plan of the run and the fetch of the checkpoint."""
    door.hub.fail("status", kind="cdn", file="*.safetensors", status=503)
    recipe = door.recipe()
    assert door.cli("run", recipe)[0] == 2
    pinned = door.hub.repository(PYTHIA).branches["step2"]
    door.hub.repository(PYTHIA).move("step2", door.checkpoints / "step0")
    door.hub.clear()
    assert "has moved" in ok(door, "run", recipe)
    assert pinned in {record.revision for record in door.hub.downloads(".safetensors")}
    ok(door, "run", door.local_recipe())
    assert sets_digest(door.store) == sets_digest(door.folder / "local.zarr")


def test_a_revision_that_is_gone_fails_alone(door: Door) -> None:
    door.hub.repository(PYTHIA).remove_revision("step2")
    code, out, err = door.cli("run", door.recipe())
    assert (code, err) == (1, "")
    assert "the hub has no such revision" in out
    status = open_store(door.store)["checkpoints"]["status"]
    assert (status.sel(checkpoint=["main/step0", "main/step1", "main/step4"]) == DONE).all()
    listing._asked.clear()
    code, out, _ = door.cli("verify", door.recipe())
    assert code == 1
    assert "not on the hub" in out
    listing._asked.clear()
    assert (
        "1 of their revisions are not on the hub, such as step2"
        in door.cli("plan", door.recipe())[1]
    )


def test_the_texts_are_pinned_and_read_once(door: Door) -> None:
    recipe = door.recipe()
    ok(door, "run", recipe)
    first = sets_digest(door.store)
    door.hub.repository(FINEWEB, "dataset").move("main", {"README.md": "nothing is left"})
    shutil.rmtree(door.cache)
    door.hub.clear()
    recipe.write_text(recipe.read_text().replace('"loss"]', '"loss", "alpha_req"]'))
    ok(door, "run", recipe)
    assert door.hub.downloads(".parquet") == []
    assert sets_digest(door.store) == first
