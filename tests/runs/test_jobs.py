"""Runs, resumed, extended and failed: what is captured again and what is not."""

from __future__ import annotations

import json
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

import runs.claims
from runs.errors import InputError
from runs.jobs import execute
from runs.leases import _boot
from runs.measures import measure
from runs.plan import make_plan
from runs.products.base import Arrays
from runs.recipe import load_recipe
from runs.store import open_store
from runs.writing import DONE, FAILED, MISSING, StoreWriter
from tests.runs.conftest import STEPS, save_step, sets_digest

Write = Callable[..., Path]


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of every checkpoint loaded from now on."""
    seen: list[str] = []
    real = runs.claims.load_model

    def load(path: Path, **options: str) -> object:
        seen.append(path.name)
        return real(path, **options)

    monkeypatch.setattr(runs.claims, "load_model", load)
    return seen


def gone() -> dict[str, object]:
    """What a lease says whose process is dead."""
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": 2**22 + 1,
        "born": 0.0,
        "token": "x",
    }


def test_a_second_run_does_no_forward_pass(write_recipe: Write, forwards: list[str]) -> None:
    recipe = load_recipe(write_recipe())
    first = execute(recipe)
    assert first.captured == len(STEPS)
    assert sorted(forwards) == sorted(f"step{s}" for s in STEPS)
    assert first.measured
    before = sets_digest(recipe.store)
    forwards.clear()
    second = execute(recipe)
    assert forwards == []
    assert (second.captured, second.measured) == (0, ())
    assert sets_digest(recipe.store) == before


def test_one_more_measure_computes_only_it(write_recipe: Write, forwards: list[str]) -> None:
    path = write_recipe()
    few = path.read_text()
    assert execute(load_recipe(path)).measured == (
        "rankme/li2025/speeches",
        "loss/surprisal/speeches",
    )
    forwards.clear()
    path.write_text(few.replace('"loss"', '"loss", "linear_cka/debiased"'))
    outcome = execute(load_recipe(path))
    assert outcome.measured == ("linear_cka/debiased/speeches",)
    assert forwards == []


def test_more_checkpoints_capture_only_those(
    write_recipe: Write, own_series: Path, forwards: list[str]
) -> None:
    recipe = load_recipe(write_recipe(own_series))
    execute(recipe)
    forwards.clear()
    new = range(3, 13)
    for step in set(new) - set(STEPS):
        save_step(own_series, step)
    outcome = execute(recipe)
    assert sorted(forwards) == sorted(f"step{s}" for s in set(new) - set(STEPS))
    assert outcome.captured == len(set(new) - set(STEPS))
    tree = open_store(recipe.store)
    steps = sorted(set(STEPS) | set(new))
    assert tree["checkpoints"]["step"].values.tolist() == steps
    assert tree["sets/speeches/hidden"]["step"].values.tolist() == steps
    assert not np.isnan(tree["sets/speeches/hidden"]["hidden"].values[:, :, :10]).any()


def test_one_more_product_captures_only_it(
    write_recipe: Write, forwards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = write_recipe(capture='products = ["hidden", "moments"]')
    execute(load_recipe(few))
    store = load_recipe(few).store
    kept = {p: p.stat().st_mtime_ns for p in (store / "sets/speeches/hidden").rglob("c/*/**/*")}
    more = write_recipe(capture='products = ["hidden", "moments", "tokens"]', name="more.toml")
    forwards.clear()
    wanted: list[list[str]] = []
    real = runs.claims.Worker._capture_one

    def spy(self: runs.claims.Worker, name: str, loaded: object, labels: list[str]) -> object:
        wanted.append(list(labels))
        return real(self, name, loaded, labels)  # type: ignore[arg-type]

    monkeypatch.setattr(runs.claims.Worker, "_capture_one", spy)
    execute(load_recipe(more))
    assert len(forwards) == len(STEPS)
    assert wanted == [["speeches/tokens"]] * len(STEPS)
    assert kept
    assert kept == {
        p: p.stat().st_mtime_ns for p in (store / "sets/speeches/hidden").rglob("c/*/**/*")
    }


def damage(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "nan":
        tensors = load_file(weights)
        tensors["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"][3, 4] = torch.nan
        save_file(tensors, weights, metadata={"format": "pt"})
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "missing":
        weights.unlink()
    elif how == "partial":
        tensors = load_file(weights)
        del tensors["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]
        save_file(tensors, weights, metadata={"format": "pt"})
    else:
        (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("nan", "gpt_neox.layers.1.mlp.dense_h_to_4h.weight holds NaN"),
        ("truncated", "model.safetensors: is truncated or damaged"),
        ("missing", "no weights"),
        ("partial", "missing weights"),
    ],
)
def test_a_bad_checkpoint_fails_alone(
    write_recipe: Write, own_series: Path, how: str, reason: str
) -> None:
    damage(own_series / "step2", how)
    recipe = load_recipe(write_recipe(own_series))
    outcome = execute(recipe)
    assert list(outcome.failed) == ["main/step2"]
    assert reason in outcome.failed["main/step2"]
    assert outcome.captured == len(STEPS) - 1
    tree = open_store(recipe.store)
    status = tree["checkpoints"]["status"]
    assert (status.sel(checkpoint="main/step2") == FAILED).all()
    assert (status.drop_sel(checkpoint="main/step2") == DONE).all()
    assert "main/step2" not in tree["sets/speeches/hidden"]["checkpoint"].values
    assert any(line.startswith("main/step2 failed") for line in tree.attrs["warnings"])
    # The reason stays and is not tried again, until asked.
    assert execute(recipe).captured == 0
    shutil.rmtree(own_series / "step2")
    save_step(own_series, 2)
    again = execute(recipe, retry=True)
    assert (again.captured, again.failed) == (1, {})


def test_weights_that_changed_are_not_mixed_in(write_recipe: Write, own_series: Path) -> None:
    execute(load_recipe(write_recipe(own_series, capture='products = ["hidden"]')))
    shutil.rmtree(own_series / "step4")
    save_step(own_series, 5)
    (own_series / "step5").rename(own_series / "step4")
    more = write_recipe(own_series, name="more.toml", capture='products = ["hidden", "tokens"]')
    outcome = execute(load_recipe(more))
    assert "not those captured before" in outcome.failed["main/step4"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("length = 24", "length = 20", "inputs speeches"),
        ("block = 4", "block = 5", "block: store has 4, recipe gives 5"),
        ("[capture]", '[capture]\ndtype = "bfloat16"', "dtype: store has float32"),
    ],
)
def test_a_store_of_another_identity_is_refused(
    write_recipe: Write, old: str, new: str, expected: str
) -> None:
    path = write_recipe(steps="steps = [0, 1]")
    execute(load_recipe(path))
    store = load_recipe(path).store
    before = sets_digest(store)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=expected):
        execute(load_recipe(path))
    assert sets_digest(store) == before


def test_memory_back_off_ends_with_the_same_numbers(
    write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(write_recipe(steps="steps = [0, 4]"))
    execute(recipe)
    calm = open_store(recipe.store)["sets/speeches"].load()
    shutil.rmtree(recipe.store)
    from runs.loaded import LoadedModel

    real = LoadedModel.forward

    def narrow(
        self: LoadedModel, tokens: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if len(tokens) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: you tried")
        return real(self, tokens, mask)

    monkeypatch.setattr(LoadedModel, "forward", narrow)
    assert execute(recipe).failed == {}
    tight = open_store(recipe.store)["sets/speeches"].load()
    np.testing.assert_allclose(
        tight["moments/eigenvalues"], calm["moments/eigenvalues"], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(tight["hidden/hidden"], calm["hidden/hidden"], atol=1e-5)
    monkeypatch.setattr(
        LoadedModel, "forward", lambda *_: (_ for _ in ()).throw(MemoryError("no memory"))
    )
    shutil.rmtree(recipe.store)
    assert "memory ran out" in execute(recipe).failed["main/step0"]


def test_a_fused_run_keeps_no_maximum_and_measures_the_rest(write_recipe: Write) -> None:
    every = "names = []"
    plain = load_recipe(write_recipe(steps="steps = [4]", measures=every))
    execute(plain)
    rows = open_store(plain.store)["sets/speeches/attention"].to_dataset().load()
    shutil.rmtree(plain.store)
    kernel = '[capture.attention]\nkernel = "fused"'
    fused = load_recipe(
        write_recipe(steps="steps = [4]", capture=kernel, measures='names = ["head_entropy"]')
    )
    assert execute(fused).measured == ("head_entropy/zhai2023/speeches",)
    tree = open_store(fused.store)
    kept = tree["sets/speeches/attention"].to_dataset().load()
    assert "max_logit" not in kept["statistic"].values
    # A share divides an error of the entropy, up to 3e-6 nats here, by a distance of 1e-3 at least.
    close = kept["statistic"].values != "bound_share"
    both = [d["mean"].sel(statistic=kept["statistic"][close]) for d in (kept, rows)]
    xr.testing.assert_allclose(*both, atol=1e-6)
    shares = [d["mean"].sel(statistic="bound_share") for d in (kept, rows)]
    assert float(abs(shares[0] - shares[1]).max()) < 3e-3
    with pytest.raises(InputError, match="which any set of this store does not have"):
        measure(tree, "max_logit")


@pytest.mark.parametrize("product", ["hidden", "moments", "attention", "tokens"])
def test_a_cell_captured_alone_has_the_bytes_of_one_captured_with_others(
    write_recipe: Write, product: str
) -> None:
    """As after a kill between the cells of one checkpoint."""
    recipe = load_recipe(write_recipe(steps="steps = [0, 16]"))
    execute(recipe)
    before = sets_digest(recipe.store)
    writer = StoreWriter(recipe.store)
    for step in (0, 16):
        writer.set_cell(f"speeches/{product}", f"main/step{step}", status=MISSING)
    assert execute(recipe).captured == 2
    assert sets_digest(recipe.store) == before


def test_a_lease_of_a_dead_process_is_taken_over(write_recipe: Write) -> None:
    recipe = load_recipe(write_recipe(steps="steps = [0, 1]"))
    leases = recipe.store.with_name(recipe.store.name + ".leases")
    leases.mkdir()
    dead = gone()
    (leases / "main%2Fstep0:speeches%2Fhidden.lease").write_text(json.dumps(dead))
    assert execute(recipe).captured == 2
    assert list(leases.iterdir()) == []


def test_a_lease_lost_meanwhile_is_not_turned_into_done(
    write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody takes the leases over and dies: our result is dropped, and the cells done again."""
    recipe = load_recipe(write_recipe(steps="steps = [0]"))
    leases = recipe.store.with_name(recipe.store.name + ".leases")
    statuses: list[int] = []
    written: list[tuple[int, str]] = []
    real, write = runs.claims.capture_set, StoreWriter.write

    def spy(self: StoreWriter, label: str, checkpoint: str, arrays: Arrays) -> None:
        written.append((len(statuses), label))
        write(self, label, checkpoint, arrays)

    def taken_over(*arguments: object, **options: object) -> None:
        real(*arguments, **options)  # type: ignore[arg-type]
        statuses.append(int(open_store(recipe.store)["checkpoints"]["status"].sum()))
        if len(statuses) == 1:
            other = gone()
            for lease in leases.glob("main*.lease"):
                lease.write_text(json.dumps(other))

    monkeypatch.setattr(runs.claims, "capture_set", taken_over)
    monkeypatch.setattr(StoreWriter, "write", spy)
    assert execute(recipe).captured == 1
    assert statuses == [0, 0]  # the first capture was not marked as done
    # … nor written: those chunks have another writer by then.
    names = ("hidden", "moments", "attention", "tokens")
    assert written == [(2, f"speeches/{name}") for name in names]
    assert (open_store(recipe.store)["checkpoints"]["status"] == DONE).all()
    assert list(leases.iterdir()) == []


def test_the_loop_reads_the_cells_it_is_at_and_never_the_table(
    write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file a cell: reading all of them before every claim is quadratic in the checkpoints."""
    reads: list[str] = []
    inside: list[bool] = []
    cells, row, loop = StoreWriter.cells, StoreWriter.row, runs.claims.Worker.run

    def spy_cells(self: StoreWriter, name: str) -> object:
        assert not inside, f"the loop read all of {name}"
        return cells(self, name)

    def spy_row(self: StoreWriter, name: str, checkpoint: str, products: list[str]) -> object:
        reads.extend([checkpoint] if name == "status" else [])
        return row(self, name, checkpoint, products)

    def spy_loop(self: runs.claims.Worker) -> None:
        inside.append(True)
        loop(self)
        inside.clear()

    monkeypatch.setattr(StoreWriter, "cells", spy_cells)
    monkeypatch.setattr(StoreWriter, "row", spy_row)
    monkeypatch.setattr(runs.claims.Worker, "run", spy_loop)
    recipe = load_recipe(write_recipe(capture='products = ["tokens"]'))
    assert execute(recipe).captured == len(STEPS)
    # Before the claim, after it, and after the work.
    assert Counter(reads) == {f"main/step{s}": 3 for s in STEPS}


@pytest.mark.slow
def test_two_workers_and_one_give_the_same_arrays(write_recipe: Write) -> None:
    path = write_recipe()
    recipe = load_recipe(path)
    execute(recipe)
    one = open_store(recipe.store)["sets"].load()
    shutil.rmtree(recipe.store)
    execute(recipe, workers=2)
    two = open_store(recipe.store)["sets"].load()
    for node in one.subtree:
        for name, values in node.data_vars.items():
            other = two[node.relative_to(one)][name]
            if values.dtype.kind == "f":
                np.testing.assert_allclose(other, values, rtol=1e-6, atol=1e-6)
            else:
                np.testing.assert_array_equal(other, values)


def test_a_set_with_visits_alone_is_counted_as_done(write_recipe: Write) -> None:
    """Or the bar would stop short of its end."""
    visits = (
        'products = ["tokens"]\nvisits = ["head_ablation"]\n[capture.head_ablation]\nsamples = 4'
    )
    recipe = load_recipe(write_recipe(steps="steps = [1]", capture=visits))
    execute(recipe)
    StoreWriter(recipe.store).set_cell("speeches/head_ablation", "main/step1", status=MISSING)
    events: list[runs.claims.Event] = []
    plan = make_plan(recipe)
    runs.claims.Worker(plan, StoreWriter(recipe.store), events.append).run()
    (start,) = [event.samples for event in events if event.kind == "start"]
    assert sum(event.samples for event in events if event.kind == "advance") == start == 40
