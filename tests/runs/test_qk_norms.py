"""Attention weights of every architecture against the logits it computes, and the visit of a series."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from attention.weights import product_spectrum, relative_rotation
from runs import measure, run
from runs.attention_tap import register
from runs.attention_weights import Observed, head_weights, observe
from runs.errors import CheckpointError, InputError
from runs.loaded import LoadedModel, wrap
from runs.store import open_store
from runs.visits.qk_norms import LEVELS
from tests.runs.zoo import VOCABULARY, tiny

PLAIN = (
    "GPT-NeoX parallel",
    "GPT-NeoX sequential",
    "Llama",
    "Qwen2",
    "Gemma-2",
    "GPT-2",
    "Mistral",
    "Phi",
)
NORMED = ("OLMo-2", "OLMo-3", "Qwen3", "OLMoE")


def ready(name: str, **changes: object) -> LoadedModel:
    model = tiny(name, **changes)
    model.set_attn_implementation(register())
    return wrap(model)


def seen_by(loaded: LoadedModel, length: int = 20) -> dict[int, Observed]:
    tokens = np.random.default_rng(0).integers(3, VOCABULARY, length).astype(np.int32)
    found: dict[int, Observed] = {}
    observe(loaded, tokens, lambda block, seen: found.update({block: seen}))
    return found


@pytest.mark.parametrize("name", PLAIN)
def test_weights_make_the_logits(name: str) -> None:
    """S of each offset from one folded matrix an offset, by a sum over all features."""
    loaded = ready(name)
    found = seen_by(loaded)
    assert found.keys() == {1, 2, 3}
    for block, seen in found.items():
        weights = head_weights(loaded, block, seen)
        heads, size = seen.q.shape[0], seen.q.shape[-1]
        k = seen.k.repeat_interleave(heads // len(seen.k), 0)
        wanted = (seen.q @ k.mT).double().numpy()
        x = np.concatenate([seen.x.double().numpy(), np.ones((20, 1))], axis=1)
        for offset in (0, 1, 7):
            middle = np.eye(size)
            if seen.rotary is not None:
                pair = (part[offset].double().numpy() for part in seen.rotary)
                middle = relative_rotation(*pair, size)
            s = x @ weights.q @ middle @ weights.k.transpose(0, 2, 1) @ x.T
            np.testing.assert_allclose(
                s.diagonal(-offset, 1, 2), wanted.diagonal(-offset, 1, 2), atol=2e-5
            )
        assert weights.gain is not None
        # Folding moves the gain from the states to the weights and changes no product.
        unit = (seen.x.double().numpy() - bias_of(loaded, block)) / weights.gain
        for part in ("q", "k", "v"):
            straight = (seen.x.double().numpy() - bias_of(loaded, block)) @ getattr(weights, part)[
                :, :-1
            ]
            np.testing.assert_allclose(unit @ weights.folded(part), straight, atol=1e-9)


def bias_of(loaded: LoadedModel, block: int) -> np.ndarray | float:
    module = loaded.blocks[block - 1]
    norm = getattr(module, "input_layernorm", None) or module.ln_1
    bias = getattr(norm, "bias", None)
    return 0.0 if bias is None else bias.detach().double().numpy()


@pytest.mark.parametrize("name", NORMED)
def test_normalised_queries_have_no_query_key_matrix_but_values_and_output(name: str) -> None:
    loaded = ready(name)
    weights = head_weights(loaded, 1, seen_by(loaded)[1])
    assert np.isfinite(
        product_spectrum(weights.folded("v"), weights.o.transpose(0, 2, 1)).norm
    ).all()


def test_clipped_queries_are_refused() -> None:
    loaded = ready("OLMo", clip_qkv=0.01)
    with pytest.raises(CheckpointError, match="block 1: its weights do not give its values"):
        head_weights(loaded, 1, seen_by(loaded)[1])
    loaded = ready("OLMo", clip_qkv=None)
    assert head_weights(loaded, 1, seen_by(loaded)[1]).gain is None  # its norm has none


def test_weights_of_another_block_are_noticed() -> None:
    loaded = ready("Llama")
    with pytest.raises(CheckpointError, match="do not give its values"):
        head_weights(loaded, 2, seen_by(loaded)[1])


def test_attention_that_cannot_be_seen_is_refused() -> None:
    loaded = ready("Llama")
    loaded.model.set_attn_implementation("eager")
    with pytest.raises(InputError, match="block 1 computes its attention outside"):
        seen_by(loaded)


VISIT = """
products = ["attention"]
visits = ["qk_norms"]
[capture.qk_norms]
offsets = [0, 3]
samples = 5
"""


def test_a_series_has_norms_and_the_chain_of_bounds(
    write_recipe: Callable[..., Path], series_folder: Path
) -> None:
    recipe = write_recipe(capture=VISIT, steps="steps = [0, 16]", measures='names = ["qk_norm"]')
    run(recipe)
    tree = open_store(recipe.parent / "tiny.zarr")
    data = tree["sets/speeches/qk_norms"].to_dataset().compute()
    assert data["level"].values.tolist() == list(LEVELS)
    assert (data["folded"] == 1).all()
    # Another way: whole matrices of one head, in float64, from the file.
    model = AutoModelForCausalLM.from_pretrained(series_folder / "step16")
    module = model.gpt_neox.layers[1]
    whole = module.attention.query_key_value.weight.detach().double()
    whole = whole * module.input_layernorm.weight.detach().double()
    q, k, v = whole.view(4, 3, 8, 32)[2]
    o = module.attention.dense.weight.detach().double()[:, 16:24]
    still = torch.linalg.svdvals(q.mT @ k / 8**0.5)
    found = measure(tree, "qk_norm").compute()
    assert found.dims == ("checkpoint", "block", "head", "offset")
    at = {"checkpoint": 1, "block": 1, "head": 2}
    assert found.isel(at).sel(offset=0).item() == pytest.approx(still[0].item())
    angle = 3.0  # 2 of 8 features turn, by one radian a position
    turn = torch.eye(8, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    apart = torch.linalg.svdvals(q.mT @ turn @ k / 8**0.5)
    assert found.isel(at).sel(offset=3).item() == pytest.approx(apart[0].item())
    rank = measure(tree, "qk_stable_rank").compute().isel(at).sel(offset=0)
    assert rank.item() == pytest.approx((still.square().sum() / still[0] ** 2).item())
    written = torch.linalg.svdvals(o @ v)
    assert measure(tree, "ov_norm").compute().isel(at).item() == pytest.approx(written[0].item())
    norms = [measure(tree, "logit_norm", convention=c).compute() for c in LEVELS]
    assert (norms[0] <= norms[1] + 1e-5).all()
    assert (norms[1] <= norms[2] + 1e-5).all()
    names = ("row_of_chain", "matrix", "weight")
    lower = [measure(tree, "entropy_lower_bound", convention=c).compute() for c in names]
    entropy = data["entropy"].mean("bound_sample")
    for more, less in pairwise([entropy, *lower]):
        assert (less.values <= more.values + 1e-5).all()


def test_what_cannot_be_bounded_is_refused_before_anything_runs(
    write_recipe: Callable[..., Path], tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    from runs.models.tokenizer import save_tokenizer, train_tokenizer
    from tests.runs.conftest import speeches

    (tmp_path / "qwen").mkdir()
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), tmp_path / "qwen")
    tiny("Qwen3", vocab_size=300).save_pretrained(tmp_path / "qwen" / "step1")
    recipe = write_recipe(series=tmp_path / "qwen", capture=VISIT)
    code, _, err = cli("plan", recipe)
    assert code == 2
    assert "capture.qk_norms.circuits" in err
    assert "normalises queries and keys" in err
