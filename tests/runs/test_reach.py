"""Sinks, massive activations and reach through capture, against the model's own eager patterns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.special import entr

from attention.reach import log_visible, logit_scale
from attention.sinks import key_importance
from runs.errors import InputError
from runs.inputs import load_tokenizer
from runs.jobs import execute
from runs.loaded import wrap
from runs.loading import load_model, quiet_transformers
from runs.measures import measure
from runs.plan import make_plan
from runs.recipe import load_recipe
from runs.rows import reach as rows
from runs.store import open_store
from runs.tables import CaptureTable, ScaledTable
from runs.visits.entropy_scaled import changed
from tests.runs.zoo import tiny

Write = Callable[..., Path]
CAPTURE = """products = ["attention", "massive", "hidden"]
visits = ["sinks", "entropy_scaled", "last_row"]
[capture.hidden]
extra_positions = 24
[capture.massive]
samples = 12
[capture.sinks]
samples = 10
window = 12
[capture.entropy_scaled]
samples = 6
context = 8
exempt = 1
base = 500
"""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_transformers():
        yield


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory, series_folder: Path) -> Path:
    """The series with every feature rotated: its one frequency, base⁰, would not know the base."""
    folder = Path(shutil.copytree(series_folder, tmp_path_factory.mktemp("turned") / "series"))
    for path in folder.glob("step*/config.json"):
        config = json.loads(path.read_text())
        config["rope_parameters"]["partial_rotary_factor"] = 1.0
        path.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, turned: Path) -> Path:
    from tests.runs.conftest import recipe_text, speeches

    folder = tmp_path_factory.mktemp("reach")
    lines = []
    for i, text in enumerate(speeches()):
        words = text.split()[: 6 + i % 30]
        marked = [f"{w}." if n % 4 == 3 else w for n, w in enumerate(words)]
        lines.append(f'{{"text": "{" ".join(marked)}", "party": "A"}}')
    (folder / "speeches.jsonl").write_text("\n".join(lines))
    recipe = folder / "recipe.toml"
    recipe.write_text(
        recipe_text(turned, capture=CAPTURE, measures="names = []", steps="steps = [1, 16]")
    )
    outcome = execute(load_recipe(recipe))
    assert outcome.failed == {}
    return Path(outcome.store)


@pytest.fixture(scope="module")
def tree(store: Path) -> xr.DataTree:
    return open_store(store)


@pytest.fixture(scope="module")
def own(tree: xr.DataTree, turned: Path) -> SimpleNamespace:
    """Patterns of step 16 for every sample alone, by the model's own eager attention."""
    inputs = tree["sets/speeches/inputs"]
    model = load_model(turned / "step16").model
    model.set_attn_implementation("eager")
    patterns = []
    for row, real in zip(inputs["tokens"].values, inputs["length"].values, strict=True):
        ids = torch.as_tensor(row[None, :real], dtype=torch.long)
        with torch.inference_mode():
            out = model(ids, output_attentions=True, use_cache=False)
        patterns.append(np.stack([a[0].double().numpy() for a in out.attentions]))
    return SimpleNamespace(patterns=patterns, length=inputs["length"].values, model=model)


def last(tree: xr.DataTree, product: str) -> xr.Dataset:
    return tree[f"sets/speeches/{product}"].to_dataset().isel(checkpoint=-1).load()


def test_sinks_are_those_of_eager_patterns(tree: xr.DataTree, own: SimpleNamespace) -> None:
    visit = last(tree, "sinks")
    chosen = np.flatnonzero(own.length >= 12)[:10]
    assert visit.sizes["sink_sample"] == 10
    for number, sample in enumerate(chosen):
        p, real = own.patterns[sample], int(own.length[sample])
        whole = key_importance(p.sum(-2), real)[..., :4]
        window = key_importance(p[..., :12, :12].sum(-2), 12)[..., :4]
        np.testing.assert_allclose(visit["importance"][:, :, number], whole, atol=2e-6)
        np.testing.assert_allclose(visit["window_importance"][:, :, number], window, atol=2e-6)
    np.testing.assert_allclose(visit["class_mass"].sum("key_class"), 1, atol=1e-5)
    np.testing.assert_allclose(visit["uniform_class_mass"].sum("key_class"), 1, atol=1e-6)
    delimiters = visit["uniform_class_mass"].sel(key_class="delimiter")
    assert (delimiters > 0).any()
    np.testing.assert_allclose(
        visit["class_mass"].sel(key_class="first"),
        visit["importance"].sel(key=1),
        atol=1e-6,
    )


def test_sink_measures_follow_from_the_importance(tree: xr.DataTree) -> None:
    visit = tree["sets/speeches/sinks"].to_dataset().load()
    alpha = visit["window_importance"].astype(float)
    flags = alpha > 0.3
    np.testing.assert_allclose(
        measure(tree, "sink_rate"), flags.sel(key=1).mean("sink_sample"), atol=1e-12
    )
    np.testing.assert_allclose(
        measure(tree, "model_sink_rate"),
        flags.sel(key=1).mean(["block", "head", "sink_sample"]),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        measure(tree, "sink_rate_by_key"), flags.mean("sink_sample"), atol=1e-12
    )
    np.testing.assert_allclose(
        measure(tree, "sink_mass", convention="by_key"), alpha.mean("sink_sample"), rtol=1e-6
    )
    without = (12 * alpha.sel(key=1) - 1) / 11
    np.testing.assert_allclose(
        measure(tree, "sink_rate", convention="gu2025_without_first_row"),
        (without > 0.3).mean("sink_sample"),
        atol=1e-12,
    )
    mass, uniform = visit["class_mass"].astype(float), visit["uniform_class_mass"].astype(float)
    wanted = mass.mean("sink_sample") / uniform.mean("sink_sample")
    found = measure(tree, "sink_mass", convention="by_class_over_uniform")
    np.testing.assert_allclose(
        found.sel(key_class=["first", "delimiter", "other"]),
        wanted.sel(key_class=["first", "delimiter", "other"]).transpose(*found.dims),
        rtol=1e-6,
    )
    assert (found["standard_error"].sel(key_class="other") > 0).all()
    assert found.sel(key_class="separator").isnull().all()  # no such key in this text


def test_head_norms_are_those_of_pattern_times_value(tree: xr.DataTree, turned: Path) -> None:
    """The input of the output projection is the heads' outputs side by side."""
    inputs, visit = tree["sets/speeches/inputs"], last(tree, "sinks")
    model = load_model(turned / "step16").model
    sample = int(np.flatnonzero(inputs["length"].values >= 12)[3])
    real = int(inputs["length"][sample])
    ids = torch.as_tensor(inputs["tokens"].values[sample : sample + 1, :real], dtype=torch.long)
    seen: list[torch.Tensor] = []
    handles = [
        layer.attention.dense.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        for layer in model.gpt_neox.layers
    ]
    with torch.inference_mode():
        model(ids)
    for handle in handles:
        handle.remove()
    norms = [x[0].double().view(real, 4, -1).norm(dim=-1).mean(0) for x in seen]
    np.testing.assert_allclose(visit["output_norm"][:, :, 3], np.stack(norms), rtol=1e-4)
    relative = measure(tree, "head_output_norm")
    np.testing.assert_allclose(relative.mean("head"), 1, rtol=1e-6)
    below = measure(tree, "inactive_head", convention="output_norm")
    per_sample = visit["output_norm"] / visit["output_norm"].mean("head")
    for threshold in below["norm_threshold"].values:
        np.testing.assert_allclose(
            below.isel(checkpoint=-1).sel(norm_threshold=threshold),
            (per_sample < threshold).mean("sink_sample"),
        )
    above = measure(tree, "inactive_head", convention="first_key").isel(checkpoint=-1)
    wanted = (visit["importance"].sel(key=1) > 0.3).mean("sink_sample")
    np.testing.assert_allclose(above.sel(mass_threshold=0.3), wanted)


def test_massive_activations_are_those_of_the_states(tree: xr.DataTree) -> None:
    """All positions of these samples are kept as hidden states."""
    hidden, points = last(tree, "hidden"), tree["sets/speeches/points"].to_dataset()
    visit = last(tree, "massive")
    assert visit.sizes["massive_sample"] == 12
    for sample in range(12):
        there = np.flatnonzero(points["sample"].values == sample)
        states = np.abs(hidden["hidden"].values[:, there])
        position = points["position"].values[there]
        for layer in range(states.shape[0]):
            top = states[layer].max()
            at = np.flatnonzero(position == int(visit["position"][layer, sample, 0]))[0]
            assert visit["magnitude"][layer, sample, 0] == pytest.approx(top, rel=1e-5)
            # A token that comes twice has one embedding: its largest number stands at two positions.
            assert states[layer][at, int(visit["feature"][layer, sample, 0])] == top
            flat = np.sort(states[layer].ravel())
            assert visit["median"][layer, sample] == pytest.approx(
                flat[(flat.size - 1) // 2], rel=1e-5
            )
    logs = np.log(visit["magnitude"].sel(largest=1) / visit["median"])
    np.testing.assert_allclose(
        np.log(measure(tree, "massive_ratio").isel(checkpoint=-1)), logs.mean("massive_sample"),
        rtol=1e-5,
    )  # fmt: skip
    assert (measure(tree, "massive_share") == 0).all()
    place = measure(tree, "massive_place").isel(checkpoint=-1, layer=3)
    values, counts = np.unique(visit["feature"][3, :, 0], return_counts=True)
    assert float(place) == values[counts.argmax()]
    assert float(place["feature_share"]) == counts.max() / 12


def test_entropy_by_position_is_that_of_eager_rows(tree: xr.DataTree, own: SimpleNamespace) -> None:
    found = measure(tree, "entropy_by_position", convention="head").isel(checkpoint=-1)
    assert found["position_bin"].values.tolist() == list(range(24))
    entropy = np.full((len(own.length), 3, 4, 24), np.nan)
    for sample, p in enumerate(own.patterns):
        entropy[sample, ..., : p.shape[-1]] = entr(p).sum(-1)
    wanted = np.nanmean(entropy, axis=0)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    paper = measure(tree, "entropy_by_position", convention="zhang2024_paper").isel(checkpoint=-1)
    np.testing.assert_allclose(paper, wanted.mean(axis=1), atol=2e-5)
    lengths = log_visible(np.arange(24), np.arange(1, 25))
    np.testing.assert_allclose(found["log_visible"][0, 0], lengths)


def test_a_slope_is_that_of_all_rows(tree: xr.DataTree, own: SimpleNamespace) -> None:
    """Least squares over every row of every sample, not over bins."""
    found = measure(tree, "entropy_slope", convention="all_rows").isel(checkpoint=-1)
    half = measure(tree, "entropy_slope", convention="last_octave").isel(checkpoint=-1)
    for block, head in ((0, 0), (2, 3)):
        for later, result in ((1, found), (12, half)):
            pairs = [
                (np.log(i + 1), entr(p[block, head, i]).sum())
                for p in own.patterns
                for i in range(later, p.shape[-1])
            ]
            slope = np.polyfit(*np.array(pairs).T, 1)[0]
            assert float(result[block, head]) == pytest.approx(slope, abs=1e-4)


def test_doubling_compares_the_last_bin_with_half_its_position() -> None:
    start, end = np.arange(64), np.arange(1, 65)
    entropy = np.tile(0.25 * np.log(end), (9, 1))
    count, none = np.full((9, 64), 7), np.zeros((9, 64), int)
    value, _, lower, upper, uniform = rows._doubling(entropy, count, none, start, end)
    assert uniform == pytest.approx(np.log(64 / 32))
    assert (value, lower, upper) == pytest.approx((np.log(2) / 4,) * 3)
    short = count * (start < 32)
    value, *_, uniform = rows._doubling(entropy, short, none, start, end)
    assert value == pytest.approx(np.log(2) / 4)
    none[3, 63] = 1
    assert np.isnan(rows._doubling(entropy, count, none, start, end)[1])
    assert np.isnan(rows._doubling(entropy, 0 * count, 0 * none, start, end)[0])
    assert np.isnan(rows._all_rows(entropy, count, none, start, end)[1])


def test_the_codes_entropy_is_that_of_the_mean_last_row(
    tree: xr.DataTree, own: SimpleNamespace
) -> None:
    full = np.flatnonzero(own.length == 24)
    assert len(full) > 3
    p = np.stack([own.patterns[s][..., -1, :] for s in full])
    twice = torch.as_tensor(p).softmax(-1).numpy()
    for convention, wanted in (
        ("zhang2024_code", entr(p.mean(0)).sum(-1)),
        ("zhang2024_code_double_softmax", entr(twice.mean(0)).sum(-1)),
        ("mean_of_rows", entr(p).sum(-1).mean(0)),
    ):
        found = measure(tree, "last_row_entropy", convention=convention).isel(checkpoint=-1)
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_conditions_are_as_if_the_model_had_been_built_so(
    tree: xr.DataTree, own: SimpleNamespace, turned: Path
) -> None:
    """Patterns recomputed from the model's q and k, with logits × t; and a model with another base."""
    visit = last(tree, "entropy_scaled")
    names = visit["condition"].values.tolist()
    assert names == ["plain", "scaled", "base", "both"]
    for sample in range(6):
        real = int(own.length[sample])
        mine = entr(own.patterns[sample]).sum(-1)
        found = visit["entropy"].isel(scaled_sample=sample)
        np.testing.assert_allclose(found.sel(condition="plain")[..., :real], mine, atol=2e-5)
        assert found[..., real:].isnull().all()
        # Up to c, and in the exempt first block, nothing changes.
        scaled = found.sel(condition="scaled")
        np.testing.assert_allclose(scaled[0, :, :real], mine[0], atol=2e-5)
        np.testing.assert_allclose(scaled[..., :8], mine[..., :8], atol=2e-5)
        if real > 16:
            assert abs(scaled[1:, :, 16:real] - mine[1:, :, 16:]).max() > 1e-4
    # The second block reads what the exempt first one wrote, so its logits are the plain ones × t.
    ids = torch.as_tensor(tree["sets/speeches/inputs"]["tokens"].values[:1, : own.length[0]]).long()
    with np.errstate(divide="ignore"):
        logits = np.log(own.patterns[0][1])
    scaled = logits * logit_scale(np.arange(1, len(ids[0]) + 1), 8)[:, None]
    p = torch.as_tensor(np.where(np.isfinite(scaled), scaled, -np.inf)).softmax(-1).numpy()
    found = visit["entropy"].isel(scaled_sample=0).sel(condition="scaled", block=2)
    np.testing.assert_allclose(found[:, : own.length[0]], entr(p).sum(-1), atol=1e-4)
    other = load_with_base(turned / "step16", 500.0)
    with torch.inference_mode():
        out = other(ids, output_attentions=True, use_cache=False)
    # Rows of the unembedding beyond the tokenizer's are padding and take no part.
    logits = out.logits[0, :-1, : len(load_tokenizer(turned))]
    loss = float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))
    wanted = np.stack([entr(a[0].double().numpy()).sum(-1) for a in out.attentions])
    found = visit["entropy"].isel(scaled_sample=0).sel(condition="base")
    np.testing.assert_allclose(found[..., : own.length[0]], wanted, atol=2e-5)
    assert float(visit["loss"][2, 0]) == pytest.approx(loss, abs=1e-5)
    plain = visit["entropy"].isel(scaled_sample=0).sel(condition="plain")
    assert abs(found - plain).max() > 1e-4


def load_with_base(path: Path, base: float) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path)
    config.rope_parameters = {**config.rope_parameters, "rope_theta": base}
    model = AutoModelForCausalLM.from_pretrained(path, config=config)
    model.set_attn_implementation("eager")
    return model


def test_scaled_measures_are_means_over_samples(tree: xr.DataTree) -> None:
    visit = tree["sets/speeches/entropy_scaled"].to_dataset().load()
    loss = measure(tree, "scaled_loss")
    np.testing.assert_allclose(loss, visit["loss"].mean("scaled_sample"))
    curves = measure(tree, "scaled_entropy_by_position")
    there = int(tree["sets/speeches/inputs"]["length"].values[:6].min())
    wanted = visit["entropy"].astype(float).mean(["head", "scaled_sample"])
    np.testing.assert_allclose(
        curves.isel(position_bin=slice(there)),
        wanted.isel(position_bin=slice(there)).transpose(*curves.dims),
        rtol=1e-6,
    )
    slopes = measure(tree, "scaled_entropy_slope").sel(condition="plain")
    assert slopes.notnull().all()


def test_the_context_is_the_configurations_unless_given() -> None:
    loaded = wrap(tiny("Llama"))
    table = ScaledTable(exempt=0)
    with changed(loaded, table, "scaled"):
        assert loaded.model.config._attn_implementation == "phasescope_scaled"
    loaded.model.config.max_position_embeddings = 1
    unknown = pytest.raises(InputError, match=r"capture\.entropy_scaled\.context")
    with unknown, changed(loaded, table, "scaled"):
        pass


def test_early_rows_do_not_know_how_long_the_text_becomes(
    write_recipe: Write, series_folder: Path
) -> None:
    """Causal attention: the same rows in a text twice as long have the same entropy."""
    table = """
[inputs.{name}]
path = "long.jsonl"
mode = "document"
length = {length}
min_length = {length}
limit = 24
"""
    both = table.format(name="longer", length=24) + table.format(name="shorter", length=12)
    recipe = write_recipe(inputs=both, capture='products = ["attention"]', steps="steps = [16]")
    lines = (recipe.parent / "speeches.jsonl").read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(json.loads(line)["text"].split()) >= 24]
    (recipe.parent / "long.jsonl").write_text("\n".join(long) + "\n", encoding="utf-8")
    tree = open_store(execute(load_recipe(recipe)).store)
    tokens = {n: tree[f"sets/{n}/inputs"]["tokens"].values for n in ("longer", "shorter")}
    np.testing.assert_array_equal(tokens["longer"][:, :12], tokens["shorter"])
    whole = measure(tree, "entropy_by_position", set="longer")
    half = measure(tree, "entropy_by_position", set="shorter")
    assert half.sizes["position_bin"] == 12
    early = whole.isel(position_bin=slice(12))
    np.testing.assert_allclose(half.values, early.values, atol=1e-5)
    assert float(abs(whole.isel(position_bin=23) - early.isel(position_bin=11)).min()) > 0.1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[capture.sinks]\nwindow = 64", r"capture\.sinks\.window`: 0 samples .* have 64 tokens"),
        ("[capture.sinks]\nkeys = 9\nwindow = 8", "keys 9 are more than the window of 8"),
        ("[capture.entropy_scaled]\ncontext = 1", r"capture\.entropy_scaled\.context"),
    ],
)
def test_what_cannot_be_done_is_one_line(write_recipe: Write, table: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_plan(load_recipe(write_recipe(capture=f'visits = ["sinks"]\n{table}')))
    assert "\n" not in str(caught.value)


def test_last_rows_need_samples_of_full_length(write_recipe: Write) -> None:
    text = write_recipe(capture='visits = ["last_row"]')
    text.write_text(text.read_text().replace("length = 24", "length = 60", 1))
    with pytest.raises(InputError, match="no sample has all 60 tokens"):
        make_plan(load_recipe(text))


def test_defaults_are_those_of_the_papers() -> None:
    capture = CaptureTable()
    assert (capture.sinks.samples, capture.sinks.window) == (100, 64)
    assert (capture.last_row.samples, capture.entropy_scaled.exempt) == (128, 2)
