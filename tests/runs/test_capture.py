"""One pass against what the model itself, NumPy and full logits say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from runs.backends import TorchHooks
from runs.errors import CheckpointError, InputError
from runs.inputs import FOLDS
from runs.loaded import LoadedModel
from runs.loading import load_model
from runs.passes import blocks, capture_set
from runs.plan import Plan, make_plan
from runs.products import PRODUCTS
from runs.products.attention import STATISTICS, position_bins
from runs.products.base import Batch
from runs.recipe import load_recipe
from runs.selfcheck import own_view, self_check

Arrays = dict[str, dict[str, np.ndarray]]


@pytest.fixture
def plan(write_recipe: Callable[..., Path]) -> Plan:
    extra = "[capture.hidden]\nextra_positions = 2\nother_points = 50"
    return make_plan(load_recipe(write_recipe(capture=extra)))


def capture(
    plan: Plan, loaded: LoadedModel, micro_batch: int | None = None, block: int = 4
) -> Arrays:
    spec = plan.specs["speeches"]
    collectors = {n: p.collector(spec, loaded.unembedding) for n, p in PRODUCTS.items()}
    capture_set(
        TorchHooks(loaded),
        spec.inputs,
        list(collectors.values()),
        block=block,
        micro_batch=micro_batch,
    )
    return {name: collector.finish() for name, collector in collectors.items()}


@pytest.fixture
def loaded(series_folder: Path) -> LoadedModel:
    return load_model(series_folder / "step4")


@pytest.fixture
def truth(plan: Plan, series_folder: Path) -> Any:
    """Hidden states, patterns and logits of an eager model that phasescope never touched."""
    model = AutoModelForCausalLM.from_pretrained(
        series_folder / "step4", attn_implementation="eager", dtype=torch.float32
    ).eval()
    inputs = plan.specs["speeches"].inputs
    ids = torch.as_tensor(inputs.tokens, dtype=torch.long)
    mask = torch.arange(ids.shape[1]) < torch.as_tensor(inputs.length)[:, None]
    with torch.inference_mode():
        found = model(
            ids, attention_mask=mask.long(), output_hidden_states=True, output_attentions=True
        )
        # The last entry is after the final norm: block 3's own output comes from a hook.
        seen: list[torch.Tensor] = []
        handle = model.gpt_neox.layers[-1].register_forward_hook(
            lambda _, __, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        model(ids, attention_mask=mask.long())
        handle.remove()
    states = [*found.hidden_states[:-1], seen[0], found.hidden_states[-1]]
    return states, found.attentions, found.logits, mask.numpy(), ids.numpy()


def test_hidden_states_are_the_models_own(plan: Plan, loaded: LoadedModel, truth: Any) -> None:
    states = truth[0]
    spec = plan.specs["speeches"]
    hidden = capture(plan, loaded)["hidden"]["hidden"]
    points = spec.points
    for layer, state in enumerate(states):
        kept = len(points) if layer == len(states) - 1 else 50
        wanted = state.numpy()[points.sample[:kept], points.position[:kept]]
        np.testing.assert_allclose(hidden[layer, :kept], wanted, atol=1e-5)
        assert np.isnan(hidden[layer, kept:]).all()


def test_moments_match_numpy_in_float64(plan: Plan, loaded: LoadedModel, truth: Any) -> None:
    inputs = plan.specs["speeches"].inputs
    found = capture(plan, loaded)["moments"]
    mask = truth[3]
    # From the captured run's own states, so that only the accumulation is compared.
    states: dict[int, list[np.ndarray]] = {}
    ids = torch.as_tensor(inputs.tokens, dtype=torch.long)
    order = list(blocks(inputs.fold, 4))
    with torch.inference_mode():
        for samples, _ in order:
            longest = int(inputs.length[samples].max())
            TorchHooks(loaded).observe(
                ids[samples, :longest],
                torch.as_tensor(mask[samples, :longest]),
                layers=frozenset(range(loaded.shape.layers)),
                hidden=lambda i, x: states.setdefault(i, []).append(x.double().numpy().copy()),
                attention=lambda *_: None,
            )
    for layer in range(loaded.shape.layers):
        for fold in range(FOLDS + 1):
            picked = [
                (x, mask[samples, : x.shape[1]], inputs.length[samples])
                for x, (samples, f) in zip(states[layer], order, strict=True)
                if fold in (0, f)
            ]
            rows = {
                "all": np.concatenate([x[m] for x, m, _ in picked]),
                "last": np.concatenate([x[np.arange(len(x)), n - 1] for x, _, n in picked]),
            }
            for pool, name in enumerate(("last", "all")):
                x = rows[name]
                assert found["n"][pool, fold] == len(x)
                mean = found["mean"][layer, pool, fold]
                np.testing.assert_allclose(mean, x.mean(0), rtol=1e-9, atol=1e-12)
                for index, centered in enumerate((True, False)):
                    y = x - x.mean(0) if centered else x
                    wanted = np.linalg.eigvalsh(y.T @ y / len(y))[::-1].clip(0)
                    got = found["eigenvalues"][layer, pool, index, fold]
                    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9 * wanted[0])


def expected_rows(pattern: np.ndarray) -> dict[str, np.ndarray]:
    """Row statistics that need no logits, from probabilities (head, query, key)."""
    count = pattern.shape[-1]
    i, j = np.arange(count)[:, None], np.arange(count)
    entropy = -np.where(pattern > 0, pattern * np.log(np.maximum(pattern, 1e-300)), 0).sum(-1)
    previous = np.full(pattern.shape[:2], np.nan)
    previous[:, 1:] = np.diagonal(pattern[:, 1:, :-1], axis1=1, axis2=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = entropy / np.log(np.arange(1, count + 1))
    normalised[:, 0] = np.nan
    return {
        "entropy": entropy,
        "normalised_entropy": normalised,
        "first_key": pattern[:, :, 0],
        "previous_key": previous,
        "distance": (pattern * (i - j)).sum(-1),
        "top_mass": pattern.max(-1),
        "effective_support": np.exp(entropy),
    }


def test_attention_rows_match_eager_patterns(plan: Plan, loaded: LoadedModel, truth: Any) -> None:
    inputs = plan.specs["speeches"].inputs
    found = capture(plan, loaded)["attention"]
    edges = position_bins(inputs.tokens.shape[1])
    np.testing.assert_array_equal(edges, np.arange(25))
    for block, attention in enumerate(truth[1]):
        rows: dict[str, list[np.ndarray]] = {}
        for sample, length in enumerate(inputs.length):
            pattern = attention[sample, :, :length, :length].double().numpy()
            for name, values in expected_rows(pattern).items():
                whole = np.full((pattern.shape[0], inputs.tokens.shape[1]), np.nan)
                whole[:, :length] = values
                rows.setdefault(name, []).append(whole)
        for name, values in rows.items():
            at = STATISTICS.index(name)
            for fold in range(FOLDS + 1):
                chosen = np.stack(values)[(inputs.fold == fold) | (fold == 0)]
                there = ~np.isnan(chosen)
                count = there.sum(0)
                np.testing.assert_array_equal(found["count"][at, block, :, fold], count)
                mean = found["mean"][at, block, :, fold]
                total = np.where(there, chosen, 0).sum(0)
                np.testing.assert_allclose(
                    mean[count > 0], (total[count > 0] / count[count > 0]), atol=1e-4
                )
                spread = np.where(there, (chosen - np.nan_to_num(mean)) ** 2, 0).sum(0)
                np.testing.assert_allclose(
                    found["m2"][at, block, :, fold][count > 0], spread[count > 0], atol=1e-3
                )
        per_sample = np.nanmean(np.stack(rows["entropy"]), axis=-1)
        for fold in range(FOLDS + 1):
            chosen = per_sample[(inputs.fold == fold) | (fold == 0)]
            assert (found["sequence_count"][block, :, fold] == len(chosen)).all()
            np.testing.assert_allclose(
                found["sequence_entropy"][block, :, fold], chosen.mean(0), atol=1e-5
            )
    assert found["nan_count"].sum() == 0


def test_samples_weigh_alike_or_by_their_length(plan: Plan, loaded: LoadedModel) -> None:
    """The two conventions differ, since samples are of different length."""
    assert len({*plan.specs["speeches"].inputs.length.tolist()}) > 5
    found = capture(plan, loaded)["attention"]
    at = STATISTICS.index("entropy")
    mean, n = found["mean"][at, ..., 0, :], found["count"][at, ..., 0, :]
    by_length = np.where(n > 0, mean * n, 0).sum(-1) / n.sum(-1)
    assert (by_length - found["sequence_entropy"][..., 0] > 0.01).all()


def test_captured_bounds_hold_on_the_mean(plan: Plan, loaded: LoadedModel) -> None:
    """A mean of entropies lies between the means of their bounds; meeting bounds have no share."""
    found = capture(plan, loaded)["attention"]
    lower, entropy, upper = (
        found["mean"][STATISTICS.index(n)] for n in ("lower_bound", "entropy", "upper_bound")
    )
    there = found["count"][0] > 0
    assert (lower <= entropy + 1e-5)[there].all()
    assert (entropy <= upper + 1e-5)[there].all()
    count = found["count"][STATISTICS.index("bound_share")]
    assert (count[..., :2] == 0).all()
    assert 0 < count.sum() < found["count"][0].sum()


def test_rows_that_failed_are_counted_and_not_averaged(plan: Plan, loaded: LoadedModel) -> None:
    spec = plan.specs["speeches"]
    collector = PRODUCTS["attention"].collector(spec, loaded.unembedding)
    samples, fold = next(iter(blocks(spec.inputs.fold, 4)))
    mask = torch.ones(len(samples), 5, dtype=torch.bool)
    rows = {name: torch.ones(len(samples), 4, 5) for name in (*STATISTICS, "visible")}
    rows["visible"] += torch.arange(5)
    for name in STATISTICS:
        rows[name][0, 2, 3] = torch.nan  # one row of sample 0 and head 2
    batch = Batch(samples, fold, torch.zeros(len(samples), 5, dtype=torch.long), mask)
    for block in (1, 2, 3):
        collector.attention(block, rows, batch)
    found = collector.finish()
    assert (found["nan_count"][:, :, 2, fold, 3] == 1).all()
    assert found["nan_count"].sum() == 2 * 3 * len(STATISTICS)  # in its fold, and in all
    assert np.isnan(found["sequence_entropy"][:, 2, [0, fold]]).all()
    assert (found["sequence_entropy"][:, [0, 1, 3], fold] == 1).all()


def test_logit_statistics_match_a_recomputation(plan: Plan, loaded: LoadedModel) -> None:
    """Maximum and centred norm come from the logits, which log-probabilities give up to a shift."""
    inputs = plan.specs["speeches"].inputs
    found = capture(plan, loaded)["attention"]
    eager = AutoModelForCausalLM.from_pretrained(
        loaded.model.config._name_or_path, attn_implementation="eager"
    ).eval()
    ids = torch.as_tensor(inputs.tokens, dtype=torch.long)
    with torch.inference_mode():
        attentions = eager(ids, output_attentions=True).attentions
    for block, attention in enumerate(attentions):
        total, count = 0.0, 0
        for sample, length in enumerate(inputs.length):
            for row in range(1, length):
                logs = attention[sample, :, row, : row + 1].double().log().numpy()
                total += np.linalg.norm(logs - logs.mean(-1, keepdims=True), axis=-1)
                count += 1
        at = STATISTICS.index("row_norm")
        mean, n = found["mean"][at, block, :, 0], found["count"][at, block, :, 0]
        # Row 0 sees one key: its centred norm is 0 and adds nothing to the sum.
        np.testing.assert_allclose((mean * n).sum(-1) / count, total / count, atol=1e-4)


def test_token_statistics_match_full_logits(plan: Plan, loaded: LoadedModel, truth: Any) -> None:
    _, _, logits, mask, ids = truth
    found = capture(plan, loaded)["tokens"]
    # The unembedding has 320 rows and the tokenizer 300 tokens: what is beyond them is padding.
    logs = torch.log_softmax(logits[..., : plan.specs["speeches"].vocabulary].double(), -1).numpy()
    assert logs.shape[-1] == 300
    probabilities = np.exp(logs)
    entropy = -(probabilities * logs).sum(-1)
    varentropy = (probabilities * logs**2).sum(-1) - entropy**2
    np.testing.assert_allclose(found["entropy"][mask], entropy[mask], atol=1e-5)
    np.testing.assert_allclose(found["varentropy"][mask], varentropy[mask], atol=1e-5)
    np.testing.assert_array_equal(found["top1"][mask], logs.argmax(-1)[mask])
    has_next = np.zeros_like(mask)
    has_next[:, :-1] = mask[:, 1:]
    target = np.roll(ids, -1, axis=1)
    wanted = -np.take_along_axis(logs, target[..., None], -1)[..., 0]
    np.testing.assert_allclose(found["surprisal"][has_next], wanted[has_next], atol=1e-5)
    assert np.isnan(found["surprisal"][~has_next]).all()
    assert (found["target_rank"][~has_next] == -1).all()
    rank = (logs > np.take_along_axis(logs, target[..., None], -1)).sum(-1)
    np.testing.assert_array_equal(found["target_rank"][has_next], rank[has_next])


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_the_micro_batch_changes_nothing_but_rounding(
    plan: Plan, loaded: LoadedModel, micro_batch: int
) -> None:
    whole, parts = capture(plan, loaded), capture(plan, loaded, micro_batch)
    for product, arrays in whole.items():
        for name, values in arrays.items():
            got = parts[product][name]
            if values.dtype.kind == "f":
                # top1 and ranks may flip on ties; everything else is a smooth function.
                np.testing.assert_allclose(got, values, rtol=1e-4, atol=2e-5, equal_nan=True)
            else:
                assert (got != values).mean() < 1e-3


def test_capture_twice_gives_the_same_bytes(plan: Plan, loaded: LoadedModel) -> None:
    one, two = capture(plan, loaded), capture(plan, loaded)
    for product, arrays in one.items():
        for name, values in arrays.items():
            assert values.tobytes() == two[product][name].tobytes(), (product, name)


def test_long_positions_are_binned_eight_an_octave() -> None:
    edges = position_bins(300)
    assert edges[:64].tolist() == list(range(64))
    assert edges[64] == 64
    assert edges[72] == 128
    assert edges[80] == 256
    assert edges[-1] == 300
    assert (np.diff(edges) > 0).all()


def test_the_self_check_passes_and_catches_a_wrong_row(loaded: LoadedModel) -> None:
    view = own_view(loaded)
    self_check(TorchHooks(loaded), view, PRODUCTS)
    wrong = LoadedModel(
        loaded.model, loaded.blocks[::-1], loaded.final_norm, loaded.shape, loaded.device
    )
    with pytest.raises(InputError, match="of GPTNeoXForCausalLM differs from the model's own"):
        self_check(TorchHooks(wrong), view, PRODUCTS)


def test_a_model_that_turns_nan_fails(plan: Plan, loaded: LoadedModel) -> None:
    with torch.no_grad():
        loaded.final_norm.weight.fill_(float("inf"))
    with pytest.raises(CheckpointError, match="NaN or Inf"):
        capture(plan, loaded)


def test_an_ablated_head_changes_the_loss_and_none_does_not(
    plan: Plan, loaded: LoadedModel
) -> None:
    inputs = plan.specs["speeches"].inputs
    whole = loaded.ablated_losses(inputs.tokens, inputs.length, None, vocabulary=300)
    surprisal = capture(plan, loaded)["tokens"]["surprisal"]
    np.testing.assert_allclose(whole, np.nanmean(surprisal.astype(float), axis=1), atol=1e-5)
    # Zeroing the columns that read one head is the same thing by another way.
    without = loaded.ablated_losses(inputs.tokens, inputs.length, (2, 1), vocabulary=300)
    size = loaded.shape.width // loaded.shape.heads
    with torch.no_grad():
        loaded.blocks[1].attention.dense.weight[:, size : 2 * size] = 0
    by_weight = loaded.ablated_losses(inputs.tokens, inputs.length, None, vocabulary=300)
    np.testing.assert_allclose(without, by_weight, atol=1e-6)
    assert np.abs(without - whole).max() > 1e-4
