"""A made-up store with the shape of a real small run: collapse, expansion, one failed checkpoint."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import xarray as xr

from figures import draw
from runs.study import assemble
from tests.figures.material import extra

TOKENS_A_STEP = 2048
FAILED = 64
KNOTS = [1.0, 16.0, 181.0, 1500.0]
RANKME = [47.0, 3.4, 36.0, 53.0]
ALPHA = [1.2, 2.1, 3.7, 1.5]
INPUTS = "1024 documents × 128 tokens, shuffle seed 0, N/d = 8.0"


def steps_of_run(last: int = 1500) -> np.ndarray:
    octave = np.unique(np.round(2.0 ** (np.arange(0, 4 * np.log2(last) + 1e-9) / 4)).astype(int))
    return np.unique(np.concatenate([[0], octave, [last]]))


def _between(steps: np.ndarray, knots: list[float], values: list[float]) -> np.ndarray:
    return np.interp(np.log(np.maximum(steps, 1)), np.log(knots), values)


def _checkpoints(runs: dict[str, np.ndarray]) -> dict[str, tuple[tuple[str], np.ndarray]]:
    steps = np.concatenate(list(runs.values()))
    branch = np.repeat(list(runs), [s.size for s in runs.values()])
    return {
        "checkpoint": (
            ("checkpoint",),
            np.array([f"{b}/step{s}" for b, s in zip(branch, steps, strict=True)]),
        ),
        "step": (("checkpoint",), steps),
        "tokens": (("checkpoint",), steps * TOKENS_A_STEP),
        "branch": (("checkpoint",), branch),
    }


def _measure(
    name: str,
    convention: str,
    dims: tuple[str, ...],
    coords: dict[str, object],
    value: np.ndarray,
    band: np.ndarray | None = None,
    **attrs: object,
) -> xr.Dataset:
    data = {"value": (dims, value)}
    if band is not None:
        logs = name == "rankme"
        data["standard_error"] = (dims, band)
        data["lower"] = (dims, value * np.exp(-1.96 * band) if logs else value - 1.96 * band)
        data["upper"] = (dims, value * np.exp(1.96 * band) if logs else value + 1.96 * band)
    described = {
        "measure": name, "convention": convention, "source": "arXiv 2509.23024", "set": "sotu",
        "level": 0.95, "interval": "infinitesimal jackknife over samples", "inputs": INPUTS,
    }  # fmt: skip
    return xr.Dataset(data, coords, {**described, **attrs})


def _geometry(
    runs: dict[str, np.ndarray], rng: np.random.Generator, layers: list[str]
) -> dict[str, xr.Dataset]:
    axis = _checkpoints(runs)
    steps = axis["step"][1]
    coords = {
        **axis,
        "layer": np.arange(len(layers)),
        "layer_name": (("layer",), np.array(layers)),
    }
    other = np.asarray(axis["branch"][1] != "main", dtype=float)
    depth = np.linspace(0.35, 1.0, len(layers))
    final = _between(steps, KNOTS, np.log(RANKME)) - 0.15 * other
    log_rankme = np.log(47) + (final - np.log(47))[:, None] * depth
    log_rankme += rng.normal(0, 0.02, log_rankme.shape)
    alpha = 1.2 + (_between(steps, KNOTS, ALPHA) + 0.2 * other - 1.2)[:, None] * depth
    alpha += rng.normal(0, 0.03, alpha.shape)
    ranks = np.arange(1, 129)
    spectrum = ranks ** -alpha[..., None] * np.exp(rng.normal(0, 0.02, (*alpha.shape, 128)))
    spectrum = -np.sort(-spectrum, axis=-1)
    both = ("checkpoint", "layer")
    return {
        "rankme/li2025": _measure(
            "rankme", "li2025", both, coords, np.exp(log_rankme),
            np.full(log_rankme.shape, 0.03), unit="1",
        ),
        "alpha_req/li2025": _measure(
            "alpha_req", "li2025", both, coords, alpha, np.full(alpha.shape, 0.05), unit="1"
        ),
        "eigenspectrum/centered": _measure(
            "eigenspectrum", "centered", (*both, "rank"), {**coords, "rank": ranks}, spectrum,
            unit="activation²",
        ),
    }  # fmt: skip


def _others(
    runs: dict[str, np.ndarray], rng: np.random.Generator, blocks: int, head_count: int
) -> dict[str, xr.Dataset]:
    axis = _checkpoints(runs)
    steps = axis["step"][1]
    heads = {**axis, "block": np.arange(1, blocks + 1), "head": np.arange(head_count)}
    fall = _between(steps, [1, 60, 1500], [0.0, 0.1, 1.0])[:, None, None]
    entropy = 3.85 - fall * rng.uniform(0.3, 2.6, (blocks, head_count))
    entropy += rng.normal(0, 0.02, (steps.size, blocks, head_count))
    dims = ("checkpoint", "block", "head")
    loss = _between(steps, [1, 30, 300, 1500], [7.62, 6.4, 4.9, 4.2])
    loss += 0.1 * (axis["branch"][1] != "main")
    return {
        "loss/surprisal": _measure(
            "loss", "surprisal", ("checkpoint",), axis, loss, np.full(loss.shape, 0.02),
            unit="nats",
        ),
        "head_entropy/zhai2023": _measure(
            "head_entropy", "zhai2023", dims, heads, np.clip(entropy, 0.0, 3.87), unit="nats",
            length=128,
        ),
        "head_entropy/normalised_visible": _measure(
            "head_entropy", "normalised_visible", dims, heads, np.clip(entropy / 3.88, 0, 1),
            unit="1",
        ),
    }  # fmt: skip


def _phases(last: int) -> xr.Dataset:
    bounds = np.array([16.0, 181.0]) * TOKENS_A_STEP
    start = np.array([1.0, 16, 181]) * TOKENS_A_STEP
    end = np.array([16.0, 181, last]) * TOKENS_A_STEP
    slope = np.array([[-2.2, 0.7], [2.0, 0.4], [0.3, -1.6]])
    width = np.array([[0.2, 0.1], [0.1, 0.6], [0.1, 0.3]])
    steps = steps_of_run(last)
    steps = steps[(steps > 0) & (steps != FAILED)]
    fitted = np.stack(
        [
            _between(steps, KNOTS, list(np.log(RANKME))),
            _between(steps, KNOTS, ALPHA),
        ],
        axis=1,
    )
    excursion = {
        "first_step": 1, "first": 47.0, "minimum_step": 16, "minimum_step_lower": 13,
        "minimum_step_upper": 19, "minimum": 3.4, "collapse_ratio": 13.8, "collapse_lower": 12.6,
        "collapse_upper": 15.1, "collapsed": True, "maximum_step": last,
        "maximum_step_lower": round(last / 1.19), "maximum_step_upper": last, "maximum": 53.0,
        "expansion_ratio": 15.6, "expansion_lower": 14.2, "expansion_upper": 17.1,
        "expanded": True, "last_step": last, "last": 53.0, "last_ratio": 1.13,
        "last_lower": 1.04, "last_upper": 1.23,
    }  # fmt: skip
    return xr.Dataset(
        {
            "boundary": (("boundary",), bounds),
            "boundary_lower": (("boundary",), bounds / 1.3),
            "boundary_upper": (("boundary",), bounds * 1.25),
            "kind": (("boundary",), np.array(["break", "bend"])),
            "label": (("segment",), np.array(["warm-up", "unlabelled", "entropy-seeking"])),
            "start": (("segment",), start),
            "end": (("segment",), end),
            "slope": (("segment", "curve"), slope),
            "slope_lower": (("segment", "curve"), slope - width),
            "slope_upper": (("segment", "curve"), slope + width),
            "fitted": (("tokens_fitted", "curve"), fitted),
        },
        {
            "curve": np.array(["log_rankme", "alpha"]),
            "tokens_fitted": steps.astype(float) * TOKENS_A_STEP,
        },
        {
            "note": "", "alpha": 0.05, "p_values": [0.002, 0.01, 0.4], "layer": "final",
            "excursion": excursion,
        },
    )  # fmt: skip


def build_tree(*names: str, blocks: int = 4, heads: int = 4) -> xr.DataTree:
    rng = np.random.default_rng(0)
    lasts = dict(zip(names, (1500, 800), strict=False))
    every = {name: steps_of_run(last) for name, last in lasts.items()}
    done = {name: steps[steps != FAILED] for name, steps in every.items()}
    axis = _checkpoints(every)
    count = axis["step"][1].size
    failed = axis["step"][1] == FAILED
    products = np.array(["hidden", "moments", "attention", "tokens"])
    status = np.where(failed[:, None], 2, 1).astype(np.int8).repeat(products.size, axis=1)
    checkpoints = xr.Dataset(
        {
            "step": axis["step"],
            "tokens": axis["tokens"],
            "branch": axis["branch"],
            "error": (("checkpoint",), np.where(failed, "shard 1 is truncated", "")),
            "seconds": (("checkpoint",), np.full(count, 3.5)),
            "status": (("checkpoint", "product"), status),
        },
        {"checkpoint": axis["checkpoint"], "product": products},
    )
    layers = ["embedding", *map(str, range(1, blocks + 1)), "final"]
    nodes = {
        f"/measures/{k if k.count('/') == 2 else f'{k}/sotu'}": v
        for k, v in {
            **_geometry(done, rng, layers),
            **_others(done, rng, blocks, heads),
            **extra(done, layers),
        }.items()
    }
    nodes |= {f"/phases/sotu/{name}": _phases(last) for name, last in lasts.items()}
    root = xr.Dataset(
        attrs={
            "name": "tiny <GPT-NeoX>", "created": "2026-11-24T03:00:00Z",
            "recipe": '[run]\nname = "tiny" # <script>alert(1)</script>\n',
            "versions": {"phasescope": "0.1.0", "torch": "2.13.0"}, "identity_digest": "ab" * 32,
            "warnings": ["N/d is 8.0 at the final layer: RankMe is biased low"],
        }
    )  # fmt: skip
    return xr.DataTree.from_dict({"/": root, "/checkpoints": checkpoints, **nodes})


def _not_fitted(usable: int) -> xr.Dataset:
    """What a search for phases keeps when it has too few checkpoints."""
    none = np.empty(0)
    missing = (("segment", "curve"), np.full((1, 2), np.nan))
    ends = ("segment",), np.full(1, np.nan)
    return xr.Dataset(
        {
            "boundary": ("boundary", none), "boundary_lower": ("boundary", none),
            "boundary_upper": ("boundary", none), "kind": ("boundary", none),
            "label": ("segment", np.array(["unlabelled"])), "start": ends, "end": ends,
            "slope": missing, "slope_lower": missing, "slope_upper": missing,
            "fitted": (("tokens_fitted", "curve"), np.full((usable, 2), np.nan)),
        },
        {
            "curve": np.array(["log_rankme", "alpha"]),
            "tokens_fitted": 2048.0 * np.arange(1, usable + 1),
        },
        {
            "note": f"{usable} usable checkpoints; at least 8 are needed", "alpha": 0.05,
            "p_values": [], "layer": "final", "excursion": {},
        },
    )  # fmt: skip


def only_steps(tree: xr.DataTree, *steps: int) -> xr.DataTree:
    """The tree with these steps alone: too few for phases."""
    nodes = tree.to_dict()
    for path, data in nodes.items():
        if "checkpoint" in data.dims:
            kept = np.flatnonzero(np.isin(data["step"].values, steps))
            nodes[path] = data.isel(checkpoint=kept)
        elif path.startswith("/phases/sotu/"):
            nodes[path] = _not_fitted(sum(step > 0 for step in steps))
    return xr.DataTree.from_dict(nodes)


@pytest.fixture(scope="session")
def tree() -> xr.DataTree:
    """One branch."""
    return build_tree("main")


@pytest.fixture(scope="session")
def forked() -> xr.DataTree:
    """Two branches of different length."""
    return build_tree("main", "seed1")


def without(tree: xr.DataTree, *paths: str) -> xr.DataTree:
    """The tree without the nodes below these paths."""
    kept = {
        p: d for p, d in tree.to_dict().items() if not any(p.startswith(f"/{q}") for q in paths)
    }
    return xr.DataTree.from_dict(kept)


def with_node(tree: xr.DataTree, path: str, data: xr.Dataset) -> xr.DataTree:
    """The tree with one node replaced or added."""
    return xr.DataTree.from_dict({**tree.to_dict(), f"/{path}": data})


@pytest.fixture(scope="session")
def drawn(tree: xr.DataTree, forked: xr.DataTree):
    """Draw a figure once for all tests that only look at it."""

    @cache
    def once(name: str, branches: int = 1, theme: str = "light"):
        return draw(tree if branches == 1 else forked, name, theme=theme)

    return once


@pytest.fixture(scope="session")
def lone(tree: xr.DataTree) -> xr.DataTree:
    """A released model: one checkpoint, its tokens unknown, too few inputs for α."""
    nodes = only_steps(tree, 0).to_dict()
    names = xr.DataArray(np.array(["model-135M.Q4"]), dims="checkpoint")
    nodes["/checkpoints"] = nodes["/checkpoints"].assign(revision=names)
    del nodes["/measures/score_correlation/li2025/sotu"]  # one checkpoint correlates with nothing
    path = "/measures/alpha_req/li2025/sotu"
    nodes[path] = nodes[path].map(lambda values: values * np.nan, keep_attrs=True)
    axis = nodes["/measures/loss/surprisal/sotu"].drop_vars(["value", "lower", "upper"]).coords
    nodes["/measures/next_token_accuracy/top1/sotu"] = _measure(
        "next_token_accuracy", "top1", ("checkpoint",), dict(axis), np.array([0.354]),
        np.array([0.003]), unit="1",
    )  # fmt: skip
    return xr.DataTree.from_dict(nodes)


@pytest.fixture(scope="session")
def study(tree: xr.DataTree) -> xr.DataTree:
    """Two models: one of four blocks of four heads, one of six of six with two branches."""
    return assemble({"small": tree, "deep": build_tree("main", "sft", blocks=6, heads=6)})


@pytest.fixture(scope="session")
def at_steps():
    return only_steps


@pytest.fixture(scope="session")
def drop():
    return without


def with_only(tree, *names):
    """The tree with these measures alone: a report of all takes half a minute."""
    others = set(tree["measures"].children) - set(names)
    return without(tree, *(f"measures/{name}" for name in sorted(others)))


@pytest.fixture(scope="session")
def only():
    return with_only


@pytest.fixture(scope="session")
def put():
    return with_node
