"""A store of answers by a simulated chooser whose balance point, oscillations and tiers are known."""

from __future__ import annotations

import numpy as np
import xarray as xr

from runs.rows.modality_cases import BOTH, IMAGE, TEXT

BLOCKS, CANDIDATES = 6, 6
VOCABULARY = 40
STEPS = (1, 10, 100, 1000)
BALANCES = (-0.4, -0.2, 0.1, 0.3)
GAIN = 4.0
KINDS = np.array(["conflict"] * 4 + ["agreement", "irrelevant_text", "irrelevant_image"])


def columns(groups: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Cases: every visual tier of every group with seven cases."""
    tiers = 6
    size = groups * tiers * len(KINDS)
    group = np.repeat(np.arange(groups), tiers * len(KINDS))
    kind = np.tile(KINDS, groups * tiers)
    image = rng.integers(0, CANDIDATES, groups)[group]
    text = (image + 1 + rng.integers(0, CANDIDATES - 1, groups)[group]) % CANDIDATES
    text_tier = np.tile([0, 2, 4, 5, 2, 4, 5], groups * tiers)
    return {
        "group": group,
        "kind": kind,
        "image": image,
        "text": np.where(kind == "agreement", image, text),
        "visual_tier": np.tile(np.repeat(np.arange(tiers), len(KINDS)), groups),
        "text_tier": text_tier,
        "typicality": np.select([text_tier == 2, text_tier == 4, text_tier == 5], [1, 0.75, 0.6], np.nan),
        "subset": np.full(size, "colour"),
    }  # fmt: skip


def chooser(
    cases: dict[str, np.ndarray], balance: float, ease: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """One checkpoint: unimodal answers nearly always right, both by a logistic curve of ΔH."""
    size = len(cases["group"])
    base = np.array([0.05, 0.1, 0.3, 0.6, 1.0, 1.4])
    noise = rng.lognormal(0, 0.3, (2, size))
    h_image = ease * base[cases["visual_tier"]] * noise[0]
    h_text = ease * base[cases["text_tier"]] * noise[1]
    delta = 2 * (h_text - h_image) / (h_text + h_image)
    follows = rng.random(size) < 1 / (1 + np.exp(GAIN * (delta - balance)))
    # Of a hundred answers to one modality three are wrong, and as many follow neither.
    wrong = rng.random((3, size)) < 0.03
    stray = (cases["image"] + 1 + (cases["text"] == (cases["image"] + 1) % CANDIDATES)) % CANDIDATES
    said = np.where(
        wrong,
        stray,
        [cases["image"], cases["text"], np.where(follows, cases["text"], cases["image"])],
    )
    layers = BLOCKS + 2
    logits = rng.normal(0, 0.01, (3, layers, size, CANDIDATES)).astype(np.float32)
    leads = np.repeat(said[:, None], layers, axis=1)
    # Both together: nothing leads at first, then the text, then what is said in the end.
    leads[BOTH, 2:4] = cases["text"]
    np.put_along_axis(logits, leads[..., None], 5.0, axis=-1)
    top1 = 10 + leads
    top1[BOTH, :2] = 3
    entropy = np.full((3, layers, size), 2.0, np.float32)
    entropy[IMAGE, -1], entropy[TEXT, -1] = h_image, h_text
    return {
        "candidate_logits": logits,
        "top1": top1.astype(np.int32),
        "entropy": entropy,
        "log_partition": np.zeros_like(entropy),
        "top1_probability": np.exp(-entropy / 2),
        "margin": np.exp(-entropy),
    }


def chooser_tree(groups: int = 40, seeds: int = 2, seed: int = 0) -> xr.DataTree:
    """A store as `open_store` gives it: branches of seeds, each at `STEPS`."""
    rng = np.random.default_rng(seed)
    cases = columns(groups, rng)
    names, steps, branches, found = [], [], [], []
    for branch in range(seeds):
        for step, balance, ease in zip(STEPS, BALANCES, (1.3, 1.1, 1.0, 0.9), strict=True):
            names.append(f"seed{branch}/step{step}")
            steps.append(step)
            branches.append(f"seed{branch}")
            found.append(chooser(cases, balance + 0.2 * branch, ease, rng))
    dims = {"candidate_logits": ("candidate",)}
    data = {
        name: (("checkpoint", "condition", "layer", "sample", *dims.get(name, ())),
               np.stack([one[name] for one in found]))
        for name in found[0]
    }  # fmt: skip
    size = len(cases["group"])
    axis = {
        "checkpoint": np.array(names),
        "step": ("checkpoint", np.array(steps)),
        "tokens": ("checkpoint", np.array(steps) * 512),
        "branch": ("checkpoint", np.array(branches)),
    }
    layer_names = ["embedding", *map(str, range(1, BLOCKS + 1)), "final"]
    token = np.tile(10 + np.arange(CANDIDATES, dtype=np.int32), (size, 1))
    answers = xr.Dataset(
        data,
        {
            **axis,
            "condition": ["image", "text", "both"],
            "layer": np.arange(BLOCKS + 2),
            "layer_name": ("layer", layer_names),
            "candidate_token": (("sample", "candidate"), token),
            "image_candidate": ("sample", cases["image"].astype(np.int32)),
            "text_candidate": ("sample", cases["text"].astype(np.int32)),
            **{n: ("sample", cases[n]) for n in ("visual_tier", "text_tier", "typicality")},
        },
    )
    inputs = xr.Dataset(
        {
            "length": ("sample", np.full(size, 12)),
            "group": ("sample", cases["group"]),
            "kind": ("sample", cases["kind"].astype(object)),
            "subset": ("sample", cases["subset"].astype(object)),
        },
        attrs={"description": f"{size} scenes in {groups} groups, shuffle seed 0"},
    )
    status = np.ones((len(names), 1), np.int8)
    checkpoints = xr.Dataset(
        {
            **{n: axis[n] for n in ("step", "tokens", "branch")},
            "status": (("checkpoint", "product"), status),
            "attempt": (("checkpoint", "product"), np.full(status.shape, "a")),
        },
        {"checkpoint": names, "product": ["scenes/answers"]},
    )
    chunked = answers.chunk({"checkpoint": 1, "condition": 1})
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"name": "chooser"}),
            "/checkpoints": checkpoints,
            "/sets/scenes/inputs": inputs,
            "/sets/scenes/answers": chunked,
        }
    )
