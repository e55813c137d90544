"""Variants, their attention, and what is logged, against plain computations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import entr

from attention.regularisation import entropy_penalty
from runs.attention_tap import AttentionTap
from runs.models.neox import TrainConfig, build_model, build_optimizer, update
from runs.models.tempered import attend_with_entropy, collecting, thresholds_of
from runs.models.trial import Trial, run_trial
from runs.models.variants import Regulariser, Variant, build_variant, head_matrices, qk_norms

CONFIG = TrainConfig(
    layers=2, width=16, heads=2, mlp=32, vocabulary=40, length=12, batch=4, steps=6, lr=0.01,
    warmup=1, per_octave=2, threads=1, initial_std=0.3,
)  # fmt: skip
PLAIN = Variant("plain", "")
TEMPERED = Variant("t", "", norms=False, activation="none", regulariser=Regulariser())


def windows(count: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 40, (count, CONFIG.length + 1))


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(windows(3)[:, :-1])).logits


@pytest.mark.parametrize(
    "variant", [PLAIN, Variant("code", "", reparametrisation="code")], ids=lambda v: v.name
)
def test_the_plain_and_the_code_variant_begin_as_the_same_function(variant):
    expected = logits_of(build_model(CONFIG))
    torch.testing.assert_close(logits_of(build_variant(CONFIG, variant)), expected)


def test_what_is_left_out_is_gone():
    bare = build_variant(CONFIG, Variant("bare", "", norms=False, activation="none"))
    kinds = {type(m) for m in bare.modules()}
    assert not kinds & {torch.nn.LayerNorm, torch.nn.GELU}
    # Without attention's output and biases what is left is linear in the embedding.
    with torch.no_grad():
        for layer in bare.gpt_neox.layers:
            layer.attention.dense.weight.zero_()
    once = logits_of(bare)
    with torch.no_grad():
        bare.gpt_neox.embed_in.weight.mul_(3)
    torch.testing.assert_close(logits_of(bare), 3 * once, rtol=1e-4, atol=1e-4)


def test_differentiable_attention_is_that_of_softmax_by_hand():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 7, 4, generator=generator, dtype=torch.float64).unbind(0)
    out, entropy = attend_with_entropy(q, k, v, scaling=0.7)
    for row in range(7):
        s = (q[:, :, row, None] * k[:, :, : row + 1]).sum(-1) * 0.7
        p = torch.softmax(s, -1)
        torch.testing.assert_close(out[:, :, row], (p[..., None] * v[:, :, : row + 1]).sum(2))
        expected = torch.from_numpy(entr(p.numpy()).sum(-1))
        torch.testing.assert_close(entropy[:, :, row], expected)


def test_a_peaked_row_has_finite_entropy_and_gradient():
    q = torch.full((1, 1, 5, 2), 300.0, requires_grad=True)
    k = torch.arange(10.0).view(1, 1, 5, 2)
    _, entropy = attend_with_entropy(q, k, torch.ones(1, 1, 5, 2), scaling=1.0)
    assert float(entropy.detach().abs().max()) < 1e-6
    entropy.sum().backward()
    assert bool(q.grad.isfinite().all())


def test_temperatures_divide_the_logits_of_their_row_alone():
    model = build_variant(CONFIG, TEMPERED)
    tokens = torch.from_numpy(windows(3)[:, :-1])
    seen: dict[int, torch.Tensor] = {}

    def entropies() -> torch.Tensor:
        listen = AttentionTap(listener=lambda b, s: seen.__setitem__(b, s["entropy"].clone()))
        with torch.no_grad(), listen:
            model.eval()(tokens)
        return seen[1]

    first = entropies()
    with torch.no_grad():
        model.gpt_neox.layers[0].attention.temperature[1, 5] = 1e9
    second = entropies()
    changed = (first != second).any(dim=0)
    assert changed.nonzero().tolist() == [[1, 5]]
    assert torch.allclose(second[:, 1, 5], torch.tensor(6.0).log())  # uniform over six keys
    # The training path says the same as the streaming one.
    with collecting() as found:
        model.train()(tokens)
    torch.testing.assert_close(found[0].detach(), second, rtol=1e-4, atol=1e-5)


def test_the_penalty_reaches_thresholds_temperatures_and_weights():
    model = build_variant(CONFIG, TEMPERED)
    with collecting() as entropies:
        model(torch.from_numpy(windows(3)[:, :-1]))
    theta = thresholds_of(model)
    entropy_penalty(torch.stack(entropies), theta, margin=0.0).backward()
    for layer in model.gpt_neox.layers:
        attention = layer.attention
        for moved in (attention.threshold, attention.temperature, attention.query_key_value.weight):
            assert bool(moved.grad.any())


def test_temperatures_are_not_decayed():
    model = build_variant(CONFIG, TEMPERED)
    decayed = build_optimizer(model, CONFIG).param_groups[0]["params"]
    kept = {id(p) for p in decayed}
    named = dict(model.named_parameters())
    assert len(named) == sum(len(g["params"]) for g in build_optimizer(model, CONFIG).param_groups)
    assert {n for n, p in named.items() if p.ndim > 1 and id(p) not in kept} == {
        f"gpt_neox.layers.{i}.attention.temperature" for i in range(2)
    }


def test_what_is_added_to_the_loss_is_not_returned_and_has_a_gradient():
    def step(weight: float) -> tuple[float, torch.Tensor]:
        model = build_variant(CONFIG, PLAIN)
        optimizer = build_optimizer(model, CONFIG)

        def extra() -> torch.Tensor:
            return weight * sum((p**2).sum() for p in model.parameters())

        loss, _ = update(model, optimizer, windows(4), lr=0.01, clip=1.0, extra=extra)
        return loss, model.get_output_embeddings().weight.detach()

    (loss, weights), (same, pulled) = step(0.0), step(1.0)
    assert loss == same
    assert not torch.equal(weights, pulled)


def test_head_matrices_make_the_models_queries_and_keys():
    model = build_variant(CONFIG, PLAIN)
    layer = model.gpt_neox.layers[1]
    found = head_matrices(layer, CONFIG.heads)
    x = torch.randn(1, 1, 16, generator=torch.Generator().manual_seed(0))
    seen: dict[str, torch.Tensor] = {}

    def inspect(block, query, key, value, rule, statistics, output):
        seen.update(query=query, key=key, value=value)

    # At position 0 the rotary embedding is the identity.
    cos, sin = model.gpt_neox.rotary_emb(x, torch.zeros(1, 1, dtype=torch.long))
    with torch.no_grad(), AttentionTap(inspect=inspect):
        out, _ = layer.attention(x, None, position_embeddings=(cos, sin))
        assert not layer.attention.query_key_value.bias.any()
    for name, made in seen.items():
        torch.testing.assert_close(made[0, :, 0], found[name] @ x[0, 0])
    combined = torch.einsum("hf,hfw->w", seen["value"][0, :, 0], found["output"])
    torch.testing.assert_close(out[0, 0], combined)


def test_qk_norms_are_those_of_the_product():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 3, 5, 20, generator=generator, dtype=torch.float64)
    expected = [np.linalg.norm((a.T @ b).numpy(), 2) / 5**0.5 for a, b in zip(q, k, strict=True)]
    np.testing.assert_allclose(qk_norms(q, k).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(
    "variant",
    [
        PLAIN,
        Variant("paper", "", reparametrisation="paper", norms=False),
        TEMPERED,
        replace(TEMPERED, regulariser=Regulariser("jha2025_code", strength=1.0)),
    ],
    ids=["plain", "paper", "tempered", "penalised"],
)
def test_a_run_is_logged_and_repeats(variant):
    trial = Trial((("seed", 0),), CONFIG, variant)
    held = windows(5, 1)
    log, again = (run_trial(trial, windows(), held) for _ in range(2))
    assert log["step"].tolist() == [0, 1, 2, 3, 4, 6]
    for name, values in log.items():
        np.testing.assert_array_equal(values, again[name])
    uniform = np.log(np.arange(1, 13)).mean()
    assert (log["entropy"] <= uniform + 1e-6).all()
    assert np.isnan(log["loss"][0])
    assert np.isfinite(log["loss"][1:]).all()
    start = build_variant(CONFIG, variant).eval()
    matrices = head_matrices(start.gpt_neox.layers[0], 2)
    norm = np.linalg.norm(matrices["value"].flatten(0, 1).numpy(), 2)
    assert log["spectral_norm"][0, 0, 2] == pytest.approx(norm, rel=1e-5)
    if variant.reparametrisation:
        assert (log["norm_over_gamma"] >= 1 - 1e-5).all()
        np.testing.assert_allclose(log["gamma"][0], 1)
    else:
        assert np.isnan(log["gamma"]).all()
    if variant.regulariser:
        np.testing.assert_allclose(log["threshold"][0], 0.5)
        assert (log["threshold"][-1] != 0.5).any()


def test_the_penalty_moves_entropies_toward_the_thresholds():
    ends = {}
    for strength in (0.0, 10.0):
        rule = Regulariser(strength=strength, margin=0.0, temperature=1.0, threshold=0.2)
        variant = replace(TEMPERED, regulariser=rule)
        config = replace(CONFIG, steps=40)
        log = run_trial(Trial((), config, variant), windows(), windows(5, 1))
        ends[strength] = np.abs(log["entropy"] / np.log(12) - log["threshold"])[-1].mean()
    assert ends[10.0] < 0.3 * ends[0.0]


def test_a_run_whose_loss_is_no_number_stops_there():
    config = replace(CONFIG, lr=1e30, steps=40)
    log = run_trial(Trial((), config, PLAIN), windows(), windows(5, 1))
    assert np.isfinite(log["held_out_loss"][0])
    assert np.isnan(log["held_out_loss"][-1])
    assert np.isnan(log["entropy"][-1]).all()
