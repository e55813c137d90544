"""A thousand checkpoints and fifty workers: the real claim loop, leases and store, with fake models.

python -m benchmarks.scale [--checkpoints 1000] [--workers 50] [--kills 60] [--hosts 5] [--seed 0]
python -m benchmarks.scale --growth 100 300 1000
python -m benchmarks.scale --paper

Workers are processes. While they work, some are killed with SIGKILL and started again; a share of the
checkpoints fails, some take long, and every write waits for a slow disk. Workers of one `host` see each
other's process numbers, those of others only heartbeats; `--stale` shortens the five minutes without one.
The run ends with every checkpoint done or failed with a reason, every number in the store looked at, and
no cell written after it was done, or it ends with an AssertionError.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.fakes import Troubles, expected, fake_plan, fate, work
from benchmarks.numbers import positive
from runs.jobs import prepare
from runs.leases import Lease
from runs.plan import Plan
from runs.series import Checkpoint
from runs.store import open_store
from runs.writing import DONE, FAILED, StoreWriter, array_in

Event = dict[str, Any]
CAPTURED: dict[str, str | float] = {
    "error": "",
    "seconds": 1.0,
    "digest": "d",
    "attempt": "a",
    "status": DONE,
}


def simulate(options: argparse.Namespace, folder: Path) -> None:
    """Start, kill, restart, wait, check, print."""
    store, journals = folder / "scale.zarr", folder / "journals"
    journals.mkdir()
    troubles = Troubles(
        options.capture, options.failing, options.straggling, options.straggler, options.disk,
        options.seed,
    )  # fmt: skip
    # Children of a server that has imported everything: a restart costs no import of torch.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.fakes"])

    def start(slot: int) -> Any:
        host = f"node{slot % options.hosts}"
        arguments = (store, journals, options.checkpoints, troubles, host, options.stale)
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        return process

    generator = random.Random(options.seed)
    started = time.monotonic()
    slots = [start(i) for i in range(options.workers)]
    kills = 0
    while any(p.is_alive() for p in slots):
        time.sleep(generator.expovariate(1 / options.every))
        living = [i for i, p in enumerate(slots) if p.is_alive()]
        if kills < options.kills and living:
            slot = generator.choice(living)
            slots[slot].kill()
            slots[slot].join()
            slots[slot] = start(slot)
            kills += 1
    wall = time.monotonic() - started
    crashed = [p.exitcode for p in slots if p.exitcode]
    assert not crashed, f"workers ended with {crashed}"
    plan = fake_plan(store, options.checkpoints)
    events = read_journals(journals)
    check(plan, troubles, events)
    report(options, events, wall, kills)


def read_journals(folder: Path) -> dict[str, list[Event]]:
    """Events by process; the last line of a killed one may be cut."""
    found = {}
    for path in folder.glob("*.jsonl"):
        lines = path.read_text().split("\n")[:-1]
        found[path.stem] = [json.loads(line) for line in lines]
    return found


def check(plan: Plan, troubles: Troubles, events: dict[str, list[Event]]) -> None:
    """Whether the store is whole: each cell's fate, its numbers, and who wrote it when."""
    writer = StoreWriter(plan.recipe.store)
    status, errors, labels = writer.cells("status"), writer.cells("error"), writer.labels()
    assert len(labels) == len(plan.series)
    products = writer.products()
    root = zarr.open_group(plan.recipe.store, mode="r")
    stored: dict[str, dict[str, Any]] = {
        product: {
            name: array_in(root, f"sets/{product}/{name}")[:] for name in plan.layouts[product]
        }
        for product in products
    }
    for row, label in enumerate(labels):
        failing = fate(label, troubles)[1]
        assert (status[row] == (FAILED if failing else DONE)).all(), (label, status[row])
        assert all(("simulated damage" in str(e)) == failing for e in errors[row]), label
        if not failing:
            for product in products:
                for name, values in expected(plan, product, label).items():
                    np.testing.assert_array_equal(stored[product][name][row], values)
    by_cell: dict[str, list[Event]] = defaultdict(list)
    for event in (e for rows in events.values() for e in rows if ":" in e["cell"]):
        by_cell[event["cell"]].append(event)
    for cell, rows in by_cell.items():
        ends = [e["at"] for e in rows if e["kind"] in ("done", "failed")]
        # A worker killed between its last write to the store and its journal leaves no end.
        assert len(ends) <= 1, f"{cell} was finished {len(ends)} times"
        late = [e for e in rows if e["kind"] == "writing" and ends and e["at"] > ends[0]]
        assert not late, f"{cell} was written after it was done"


def report(
    options: argparse.Namespace, events: dict[str, list[Event]], wall: float, kills: int
) -> None:
    """The figures."""
    total: Counter[str] = Counter()
    for rows in events.values():
        total.update(rows[-1]["counters"] if rows else {})
    kinds = Counter(e["kind"] for rows in events.values() for e in rows)
    writes = Counter(e["cell"] for rows in events.values() for e in rows if e["kind"] == "writing")
    failed = len(
        {e["cell"].split(":")[0] for r in events.values() for e in r if e["kind"] == "failed"}
    )
    captured = len({e["cell"] for r in events.values() for e in r if e["kind"] == "captured"})
    print(f"checkpoints             {options.checkpoints}: {captured} done, {failed} failed")
    print(f"workers, hosts, kills   {options.workers}, {options.hosts}, {kills}")
    prepared = total["prepare_seconds"] / max(len(events), 1)
    print(f"wall time               {wall:.1f} s")
    print(f"to lay out or check     {prepared:.1f} s of each worker's")
    print(f"leases taken            {total['leases']:.0f}, refused {total['lease_refusals']:.0f}")
    print(f"takeovers               {kinds['takeover']} leases")
    lost = kinds["captured"] - captured
    print(f"captures                {kinds['captured']}, of which {lost} lost to kills")
    print(f"cells written again     {sum(n - 1 for n in writes.values())}, after a kill halfway")
    print(f"polls                   {total['polls']:.0f}")
    print("seconds of all workers  " + ", ".join(
        f"{name} {total[f'{name}_seconds']:.0f}"
        for name in ("capture", "write", "mark", "status", "claim", "prepare")
    ))  # fmt: skip


def growth(counts: list[int], folder: Path) -> None:
    """What single operations cost in a finished store of so many checkpoints."""
    for count in counts:
        plan = fake_plan(folder / f"{count}.zarr", count)
        writer = StoreWriter(plan.recipe.store)
        prepare(plan, writer)
        root = zarr.open_group(plan.recipe.store, mode="r+")
        for name, value in CAPTURED.items():
            array_in(root, f"checkpoints/{name}")[:] = value
        found = {name: median_ms(run) for name, run in operations(plan, writer).items()}
        if count == counts[0]:
            print("ms, medians | " + " | ".join(found))
        print(f"{count:>11} | " + " | ".join(f"{v:>{len(k)}.1f}" for k, v in found.items()))


def operations(plan: Plan, writer: StoreWriter) -> dict[str, Callable[[], object]]:
    """What workers and readers do to a store besides writing arrays."""
    label, products = plan.series.checkpoints[-1].label, list(plan.layouts)
    more = iter(range(len(plan.series), len(plan.series) + 100))
    return {
        "start": lambda: prepare(plan, writer),
        "all status": lambda: writer.cells("status"),
        "one row": lambda: writer.row("status", label, products),
        "mark": lambda: writer.set_cell(products[0], label, **CAPTURED),
        "lease": lambda: cycle(writer.claim("cell")),
        "add one": lambda: writer.add_checkpoints([Checkpoint(Path("x"), n := next(more), n)]),
        "open_store": lambda: open_store(plan.recipe.store),
    }


def cycle(lease: Lease) -> None:
    """Take and give back."""
    assert lease.acquire()
    lease.release()


def median_ms(operation: Callable[[], object], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        operation()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=positive, default=1000)
    parser.add_argument("--workers", type=positive, default=50)
    parser.add_argument("--hosts", type=positive, default=5, help="machines they pretend to be on")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--every", type=float, default=1.0, help="mean seconds between kills")
    parser.add_argument("--stale", type=float, default=10.0, help="seconds without heartbeat")
    parser.add_argument("--capture", type=float, default=0.05, help="mean seconds")
    parser.add_argument("--failing", type=float, default=0.05, help="share of checkpoints")
    parser.add_argument("--straggling", type=float, default=0.02, help="share of checkpoints")
    parser.add_argument("--straggler", type=float, default=5.0, help="seconds")
    parser.add_argument("--disk", type=float, default=0.02, help="mean seconds before each array")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", type=int, nargs="+", metavar="N")
    parser.add_argument("--paper", action="store_true", help="real series, on paper")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="phasescope-scale-"))
    try:
        if options.paper:
            from benchmarks.estimates import print_table

            print_table()
        elif options.growth:
            growth(options.growth, folder)
        else:
            simulate(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
