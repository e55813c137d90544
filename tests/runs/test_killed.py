"""Runs killed with SIGKILL at random moments end with the arrays of an undisturbed one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runs.errors import InputError
from runs.jobs import execute
from runs.recipe import load_recipe
from runs.store import open_store
from runs.writing import DONE
from tests.runs.conftest import sets_digest

Write = Callable[..., Path]
KILLS = [6, pytest.param(20, marks=pytest.mark.long)]


def start(recipe: Path, workers: int, *more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    code = "from runs.cli import main; main()"
    command = [sys.executable, "-c", code, "run", str(recipe), "--workers", str(workers), *more]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kills", KILLS)
def test_killed_runs_resume_to_the_same_bytes(
    write_recipe: Write, workers: int, kills: int
) -> None:
    path = write_recipe()
    recipe = load_recipe(path)
    execute(recipe)
    undisturbed = sets_digest(recipe.store)
    shutil.rmtree(recipe.store)
    generator = random.Random(7)
    # One whole run first tells how long a run takes on this machine now.
    before = time.monotonic()
    process = start(path, workers)
    _, errors = process.communicate()
    whole = time.monotonic() - before
    assert process.returncode == 0, errors
    shutil.rmtree(recipe.store)
    killed = 0
    while killed < kills:
        process = start(path, workers)
        time.sleep(generator.uniform(0.3 * whole, whole))
        if process.poll() is not None:
            # It ended before the blow: begin again, so that every kill falls into work.
            process.communicate()
            shutil.rmtree(recipe.store)
            continue
        kill_group(process)
        killed += 1
        if all_done(recipe.store):
            shutil.rmtree(recipe.store)
    process = start(path, workers)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert sets_digest(recipe.store) == undisturbed
    assert not list(recipe.store.with_name(recipe.store.name + ".leases").glob("*.lease"))


def all_done(store: Path) -> bool:
    try:
        status = open_store(store)["checkpoints"]["status"]
    except InputError:  # killed before there was much of a store
        return False
    return bool(status.size) and bool((status == DONE).all())
