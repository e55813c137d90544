"""A store remembers what captured each cell, and says so where that was not the same for all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from runs import claims, measure
from runs.jobs import execute
from runs.processor import processor, several
from runs.recipe import load_recipe
from runs.store import open_store

Write = Callable[..., Path]


def captured(write: Write, steps: list[int]) -> Path:
    recipe = load_recipe(write(steps=f"steps = {steps}"))
    execute(recipe)
    return recipe.store


def said(store: Path) -> list[str]:
    return [line for line in open_store(store).attrs["warnings"] if "processor" in line]


def test_one_processor_is_noted_and_not_spoken_of(write_recipe: Write) -> None:
    store = captured(write_recipe, [0, 4])
    tree = open_store(store)
    assert np.unique(tree["checkpoints"]["processor"]).tolist() == [processor()]
    assert said(store) == []
    assert "processors" not in measure(tree, "rankme").attrs


def test_a_store_finished_on_another_processor_says_so(
    write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured(write_recipe, [0, 4])
    monkeypatch.setattr(claims, "processor", lambda _: "arm64, torch NEON, 8 threads")
    store = captured(write_recipe, [0, 4, 16])
    tree = open_store(store)
    noted = tree["checkpoints"]["processor"].sel(checkpoint=["main/step4", "main/step16"])
    assert noted[0].values.tolist() == [processor()] * noted.sizes["product"]
    assert set(noted[1].values) == {"arm64, torch NEON, 8 threads"}
    line = f"captured on more than one processor (2 on {processor()}; 1 on arm64, torch NEON, 8 threads)"
    for name in ("rankme", "loss"):
        told = measure(tree, name).attrs["processors"]
        assert told.startswith(line)
        kept = zarr.open_group(store, mode="r")
        assert (
            kept[f"measures/{name}/{measure(tree, name).attrs['convention']}/speeches"].attrs[
                "processors"
            ]
            == told
        )
    assert len(said(store)) == 1


def test_a_store_of_an_earlier_version_opens_and_is_added_to(write_recipe: Write) -> None:
    store = captured(write_recipe, [0, 4])
    shutil.rmtree(store / "checkpoints" / "processor")
    assert said(store) == []
    before = measure(open_store(store), "rankme")
    assert "processors" not in before.attrs
    captured(write_recipe, [0, 4, 16])
    tree = open_store(store)
    assert (tree["checkpoints"]["status"] == 1).all()
    noted = tree["checkpoints"]["processor"].isel(product=0)
    assert noted.values.tolist() == ["", "", processor()]
    after = measure(tree, "rankme")
    assert after.attrs["processors"].startswith(
        f"captured on more than one processor (1 on {processor()}; 2 it was not noted on which)"
    )
    np.testing.assert_array_equal(after.isel(checkpoint=slice(2)), before)


def test_what_is_said_of_several() -> None:
    assert several([]) == several(["", ""]) == several(["a", "a"]) == ""
    assert several(["b", "a", "b"]).startswith(
        "captured on more than one processor (2 on b; 1 on a):"
    )


def test_the_name_follows_kernels_and_threads() -> None:
    def named(**changes: str) -> str:
        script = "import scipy.linalg; from runs.processor import processor; print(processor())"
        clean = {
            k: v
            for k, v in os.environ.items()
            if k not in ("MKL_CBWR", "ATEN_CPU_CAPABILITY", "MKL_NUM_THREADS")
        }
        environment = clean | {"OMP_NUM_THREADS": "1"} | changes
        run = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stdout.strip()

    plain = named()
    assert plain.endswith(", 1 thread")
    assert named(OMP_NUM_THREADS="2") == plain.removesuffix("1 thread") + "2 threads"
    if torch.backends.cpu.get_cpu_capability() != "DEFAULT":
        assert "torch DEFAULT" in named(ATEN_CPU_CAPABILITY="default")
    assert "MKL_CBWR COMPATIBLE" in named(MKL_CBWR="COMPATIBLE")
