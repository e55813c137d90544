"""Made-up measures of word classes: each rises at its own step, one not at all, one is not in the set."""

from __future__ import annotations

import numpy as np
import xarray as xr

CLASSES = ("NOUN", "VERB", "ADJ", "ADV", "DET", "PRON", "ADP", "CONJ", "PRT", "NUM")
RISES = (
    30,
    60,
    120,
    250,
    20,
    45,
    90,
    400,
)  # steps halfway up; CONJ does not rise, PRT and NUM are absent
MEMBERS = 12


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _checkpoints

    axis = _checkpoints(runs)
    depth = np.arange(len(layers)) / (len(layers) - 1)
    coords = {**axis, "layer": np.arange(len(layers)), "layer_name": ("layer", np.array(layers))}
    steps = axis["step"][1]
    late = np.where(axis["branch"][1] == "main", 1.0, 1.5)
    rng = np.random.default_rng(5)
    up = np.array(
        [1 / (1 + (late * at / np.maximum(steps, 0.5)) ** 3) for at in RISES]
    ).T  # (checkpoint, class)
    up[:, 7] = 0
    grown = up.mean(axis=1)[:, None] * depth  # (checkpoint, layer)
    return {
        **_curves(coords, grown, rng),
        **_separation(coords, up, depth, rng),
        **_maps(coords, up, depth, rng),
    }


def _curves(coords: dict, grown: np.ndarray, rng: np.random.Generator) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _measure

    both = ("checkpoint", "layer")
    values = {
        "gdv/word_10": (-0.02 - 0.2 * grown, 0.01, "1"),
        "gdv_scaled/word_10": (-0.03 - 0.3 * grown, 0.015, "1"),
        "word_class_probe/linear": (0.2 + 0.35 * grown, 0.02, "1"),
        "word_class_probe/mlp": (0.21 + 0.36 * grown, 0.02, "1"),
        "word_class_selectivity/word_10": (0.1 + 0.3 * grown, 0.025, "1"),
        "word_class_codelength/online": (2.9 - 1.1 * grown, 0.05, "bits a sample"),
        "word_class_baseline/majority": (np.full(grown.shape, 0.125), 0.001, "1"),
        "word_class_baseline/class_given_word_9": (np.full(grown.shape, 0.36), 0.02, "1"),
        "word_class_baseline/class_given_classes_8_9": (np.full(grown.shape, 0.33), 0.02, "1"),
    }
    found = {}
    for path, (value, error, unit) in values.items():
        name, convention = path.split("/")
        noisy = value if "baseline" in path else value + rng.normal(0, error / 3, value.shape)
        found[path] = _measure(
            name, convention, both, coords, noisy, np.full(value.shape, error), unit=unit
        )
    code = found["word_class_codelength/online"]
    code["compression"] = 3.0 / code["value"]
    return found


def _separation(
    coords: dict, up: np.ndarray, depth: np.ndarray, rng: np.random.Generator
) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _measure

    dims = ("checkpoint", "layer", "word_class")
    value = np.full((len(up), depth.size, len(CLASSES)), np.nan)
    value[..., : up.shape[1]] = 0.62 + 0.3 * up[:, None, :] * depth[:, None]
    value += rng.normal(0, 0.005, value.shape)
    separation = _measure(
        "word_class_separation", "one_vs_rest", dims, {**coords, "word_class": list(CLASSES)},
        value, np.full(value.shape, 0.012), unit="1",
    )  # fmt: skip
    count = up.shape[1]
    share = np.full((len(up), depth.size, len(CLASSES), len(CLASSES)), np.nan)
    own = (0.15 + 0.7 * up[:, None, :] * depth[:, None])[..., None]
    share[..., :count, :count] = (1 - own) / (count - 1)
    share[..., np.arange(count), np.arange(count)] = own[..., 0]
    confusion = _measure(
        "word_class_confusion", "kmeans", (*dims, "cluster"),
        {**coords, "word_class": list(CLASSES), "cluster": list(CLASSES)}, share, unit="1",
    )  # fmt: skip
    return {
        "word_class_separation/one_vs_rest": separation,
        "word_class_confusion/kmeans": confusion,
    }


def _maps(
    coords: dict, up: np.ndarray, depth: np.ndarray, rng: np.random.Generator
) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _measure

    dims = ("checkpoint", "layer", "word_class", "member", "axis")
    place = np.full((len(up), depth.size, len(CLASSES), MEMBERS, 2), np.nan)
    angle = 2 * np.pi * np.arange(up.shape[1]) / up.shape[1]
    centre = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    noise = rng.normal(0, 0.35, (up.shape[1], MEMBERS, 2))
    apart = (3 * up[:, None, :] * depth[:, None])[..., None, None]
    place[:, :, : up.shape[1]] = apart * centre[:, None] + noise
    place[..., 2, MEMBERS // 2 :, :] = np.nan  # a class with fewer members
    own = {
        **coords, "word_class": list(CLASSES), "member": np.arange(MEMBERS), "axis": [1, 2],
    }  # fmt: skip
    found = {}
    for convention in ("classical", "smacof", "tsne"):
        data = _measure("word_class_map", convention, dims, own, place, unit="activation")
        stress = 0.4 - 0.1 * depth if convention != "tsne" else np.full(depth.size, np.nan)
        data["stress"] = data["value"] * 0 + xr.DataArray(stress, dims="layer")
        found[f"word_class_map/{convention}"] = data
    return found
