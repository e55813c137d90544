"""Terminal screens: the plan, the status of a store, the catalogues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from runs.architectures import ARCHITECTURES, IMAGE_TEXT
from runs.backends import BACKENDS
from runs.catalogue import MEASURES, Pair
from runs.checkpoints import Series
from runs.errors import InputError
from runs.faults import known_faults
from runs.outline import Outline
from runs.plan import Plan, free_disk
from runs.products import PRODUCTS
from runs.progress import in_bytes as _bytes
from runs.recipe import Recipe
from runs.starting import Pinned
from runs.verify import Verdict
from runs.visits import VISITS
from runs.writing import DONE, FAILED

_ABOUT = ("kind", "reads", "unit", "source")
_MARKS = {DONE: Text("done", "green"), FAILED: Text("failed", "red")}


def show_plan(plan: Plan, console: Console) -> None:
    """Checkpoints, sets, products and bytes of a run, before anything is loaded."""
    series, shape = plan.series, plan.shape
    steps = [c.step for c in series.checkpoints]
    branches = sorted({c.branch for c in series.checkpoints})
    console.print(
        Text.assemble(
            (series.name, "bold"),
            f": {len(series)} checkpoint{'s' * (len(series) > 1)}, steps "
            f"{min(steps):,}–{max(steps):,}, {len(branches)} branch{'es' * (len(branches) > 1)} "
            f"({', '.join(branches)})",
        )
    )
    console.print(
        f"{shape.architecture}: {shape.blocks} blocks, width {shape.width}, {shape.heads} heads, "
        f"vocabulary {shape.vocabulary:,}"
    )
    capture = plan.recipe.capture
    where = capture.device if capture.device_map is None else f"device map {capture.device_map}"
    console.print(f"backend {capture.backend}, {capture.dtype} on {where}")
    for name, spec in plan.specs.items():
        ratio = spec.inputs.samples / shape.width
        said = f": {spec.inputs.description}; N/d = {ratio:.1f}"
        console.print(Text.assemble("set ", (name, "bold"), said))
    table = Table("product", "one checkpoint", "whole series")
    for label, size in plan.bytes_per_checkpoint.items():
        table.add_row(label, _bytes(size), _bytes(size * len(series)))
    total = sum(plan.bytes_per_checkpoint.values())
    table.add_section()
    table.add_row("all", _bytes(total), _bytes(total * len(series)))
    console.print(table)
    console.print(
        f"store {plan.recipe.store}, {_bytes(free_disk(plan.recipe.store))} free; one pass a "
        "checkpoint for all products",
        soft_wrap=True,
    )


def show_outline(found: Outline, pinned: Pinned, recipe: Recipe, console: Console) -> None:
    """What a run over a published series would take, before its weights are here."""
    series, shape = found.series, found.shape
    branches = sorted({c.branch for c in series.checkpoints})
    unseen = sum(not c.verified for c in series.checkpoints)
    console.print(
        Text.assemble(
            (series.name, "bold"),
            f": {len(series)} checkpoints, {len(branches)} branch{'es' * (len(branches) > 1)} "
            f"({', '.join(branches)})",
        ),
        soft_wrap=True,
    )
    if unseen and pinned.asked:
        first = next(c for c in series.checkpoints if not c.verified)
        said = f"{unseen} of their revisions are not on the hub, such as {first.revision}"
    elif unseen:
        said = (
            f"{unseen} of their labels are unverified: made from published steps, not seen on a hub"
        )
    else:
        said = (
            "all of their labels were seen on the hub"
            if pinned.asked
            else ("all of their labels were seen in the hub's cache")
        )
    console.print(said, soft_wrap=True)
    if pinned.asked:
        console.print(f"asked the hub for {', '.join(pinned.asked)}", soft_wrap=True)
    console.print(
        f"{shape.architecture}: {shape.blocks} blocks, width {shape.width}, {shape.heads} heads, "
        f"vocabulary {shape.vocabulary:,} ({found.sizes_from})",
        soft_wrap=True,
    )
    for name, table in recipe.inputs.items():
        there = "" if table.path.exists() else f", not there yet: {table.path}"
        there = f" of {found.texts[name]}" if name in found.texts else there
        console.print(
            Text.assemble(
                "set ", (name, "bold"), f": at most {table.limit:,} × {table.length} tokens{there}"
            ),
            soft_wrap=True,
        )
    series_table = Table("", "", show_header=False)
    count = len(series)
    if found.checkpoint_bytes:
        series_table.add_row("weights of one checkpoint", _bytes(found.checkpoint_bytes))
    series_table.add_row("on this disk already", f"{found.fetched} of {count} checkpoints")
    if found.captured:
        series_table.add_row("in the store already", f"{found.captured} of {count} checkpoints")
    series_table.add_row("to download", _bytes(found.download))
    series_table.add_row("weights on the disk at a time", _bytes(found.disk))
    each = sum(found.store.values())
    series_table.add_row("store, one checkpoint", _bytes(each))
    series_table.add_row("store, whole series", _bytes(each * count))
    for what, size in ((w, s) for w, s in found.memory.items() if s):
        series_table.add_row(f"memory of a process: {what}", _bytes(size))
    series_table.add_row("passes", f"{count}, one a checkpoint for all products")
    console.print(series_table)
    console.print(f"store {recipe.store}, {_bytes(free_disk(recipe.store))} free", soft_wrap=True)


def show_faults(series: Series, console: Console) -> None:
    """Known faults of the publisher's, if any touches the selection."""
    found = known_faults(series.checkpoints)
    if not found:
        return
    table = Table(
        "checkpoints", "known fault", "reported", title="Known faults", title_justify="left"
    )
    for fault, touched in found:
        table.add_row(str(touched), fault.what, fault.source)
    console.print(table)
    console.print(
        "`phasescope verify` sees whether they are still there; a run leaves out what it finds"
    )


def show_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """One row a checkpoint that is not what its label says, and a count of the rest."""
    bad = [verdict for verdict in verdicts if not verdict.good]
    if bad:
        table = Table(Column("checkpoint", no_wrap=True), Column("what is wrong", overflow="fold"))
        for verdict in bad:
            table.add_row(verdict.checkpoint.label, verdict.reason)
        console.print(table)
    away = sum(v.source == "not on this disk" for v in verdicts)
    console.print(
        f"{len(verdicts) - len(bad) - away} of {len(verdicts)} checkpoints are what their labels say"
        + (f"; {away} are not on this disk and no hub answers" if away else "")
    )


def show_status(tree: xr.DataTree, console: Console) -> None:
    """One row a checkpoint, one column a product; reasons below."""
    checkpoints = tree["checkpoints"].to_dataset()
    if tree.attrs.get("told"):  # a store without checkpoints, which says itself what it holds
        for line in (
            f"no checkpoints: a store of kind `{tree.attrs['kind']}`",
            *tree.attrs["told"],
        ):
            console.print(line, soft_wrap=True)
        return
    products = [str(p) for p in checkpoints["product"].values]
    sets = {product.split("/")[0] for product in products}
    alone = len(sets) == 1  # then the set's name would only take room
    headings = [p.split("/")[1] if alone else p.replace("/", "/\n") for p in products]
    table = Table(Column("checkpoint", no_wrap=True), Column("tokens", no_wrap=True), *headings)
    for row, label in enumerate(checkpoints["checkpoint"].values):
        cells = [_MARKS.get(int(s), Text("missing")) for s in checkpoints["status"].values[row]]
        table.add_row(str(label), f"{int(checkpoints['tokens'].values[row]):,}", *cells)
    console.print(table)
    done = int(np.all(checkpoints["status"].values == DONE, axis=1).sum())
    console.print(f"{done} of {checkpoints.sizes['checkpoint']} checkpoints complete")
    for line in tree.attrs["warnings"]:
        console.print(line, style="yellow", soft_wrap=True)


def show_list(what: str, console: Console) -> None:
    """One of the catalogues.

    Raises
    ------
    InputError
        If there is no such catalogue.
    """
    if what == "measures":
        table = Table(*(Column(c, no_wrap=True) for c in ("measure", "convention")), *_ABOUT)
        for row in sorted(MEASURES.values(), key=lambda r: r.name):
            reads = sorted({r.variable.split("/")[0] for r in row.reads} - {"points", "inputs"})
            kind = "pair" if isinstance(row, Pair) else "reduce"
            table.add_row(row.name, row.convention, kind, ", ".join(reads), row.unit, row.source)
        for visit in VISITS.values():
            table.add_row(visit.name, "", "visit", "the model", "", visit.source)
    elif what == "figures":
        from figures import FIGURES

        table = Table(Column("figure", no_wrap=True), "title", "draws", "source")
        for figure in FIGURES.values():
            needs = ", ".join(f"{name}/{convention}" for name, convention in figure.needs)
            table.add_row(figure.name, figure.title, needs, figure.source)
    elif what == "series":
        table = Table("kind", "what it is")
        table.add_row("local", "a folder of checkpoints, with series.json or folders named step123")
        table.add_row("gguf", "one released model in a GGUF file, of a folder or a Python package")
        table.add_row(
            "pythia", "Pythia and PolyPythias: size, deduped, seed, data_seed, weight_seed"
        )
        table.add_row("olmo, olmo2, olmo3", "OLMo by size; stages and ingredients are branches")
        table.add_row("hub", "any repository whose revisions name steps, by pattern")
        table.add_row("stages", "repositories that continue one another: base, SFT, DPO, …")
    elif what == "backends":
        table = Table("", *(Column(name, no_wrap=True) for name in BACKENDS))
        for product in PRODUCTS:
            table.add_row(product, *(b.products.get(product, "no") for b in BACKENDS.values()))
        table.add_row("visits", *("yes" if b.visits else "no" for b in BACKENDS.values()))
        table.add_row(
            "needs",
            *("extra [backends]" if b.package else "nothing" for b in BACKENDS.values()),
        )
    elif what == "architectures":
        table = Table(Column("architecture", no_wrap=True), "blocks", "final norm")
        for rows in (ARCHITECTURES, IMAGE_TEXT):  # those that read images below the others
            for name, row_of in rows.items():
                table.add_row(name, row_of.blocks, row_of.final_norm)
            table.add_section()
        table.add_row("any other", "by convention", "if it passes the self-check at load")
    else:
        raise InputError(
            f"no catalogue `{what}`; there are measures, figures, series, backends, architectures"
        )
    console.print(table)
