"""Every architecture through every backend, against the model's own eager report."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import attention.streaming
from attention.streaming import row_statistics
from runs.architectures import ARCHITECTURES, OWN_TYPES, by_convention
from runs.attention_tap import AttentionTap, attention_as, register
from runs.backends import BACKENDS, Backend, TorchHooks, backend_of, check_supported
from runs.errors import InputError
from runs.loaded import padding_options, wrap
from runs.loading import quiet_transformers
from runs.selfcheck import own_view, self_check
from runs.tables import CaptureTable
from tests.attention.eager_reference import conditioned, near
from tests.runs.zoo import KNOWN, UNKNOWN, batch, tiny

PRODUCTS = ("hidden", "moments", "attention", "tokens")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_transformers():
        yield


@dataclass
class Seen:
    """What a backend reported in one pass."""

    hidden: dict[int, torch.Tensor]
    rows: dict[int, dict[str, torch.Tensor]]
    final: torch.Tensor


def watch(backend: Backend, ids: torch.Tensor, mask: torch.Tensor | None) -> Seen:
    seen = Seen({}, {}, torch.empty(0))
    with torch.inference_mode():
        seen.final = backend.observe(
            ids,
            mask,
            layers=frozenset(range(backend.loaded.shape.layers)),
            hidden=lambda layer, state: seen.hidden.update({layer: state.clone()}),
            attention=lambda block, rows: seen.rows.update({block: rows}),
        ).clone()
    return seen


def opened(kind: str, model: Any, fused_within: float | None = None) -> Backend:
    """A backend around a copy, as some change the model."""
    return BACKENDS[kind].open(wrap(copy.deepcopy(model)), fused_within)


def eager(model: Any, ids: torch.Tensor, mask: torch.Tensor | None) -> Any:
    """The model's own report by its own eager attention; nothing of ours takes part."""
    own = copy.deepcopy(model)
    own.set_attn_implementation("eager")
    with torch.inference_mode():
        return own(
            ids,
            use_cache=False,
            output_hidden_states=True,
            output_attentions=True,
            **padding_options(own, mask),
        )


def own_rows(pattern: torch.Tensor, mask: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Row statistics that need probabilities alone; NaN at padded queries."""
    p = pattern.double()
    place = torch.arange(p.shape[-1], dtype=p.dtype)
    real = torch.ones(len(p), p.shape[-1], dtype=torch.bool) if mask is None else mask
    first = real.long().argmax(-1)
    found = {
        "entropy": torch.special.entr(p).sum(-1),
        "first_key": torch.stack([q[..., i] for q, i in zip(p, first, strict=True)]),
        "distance": (p * (place[:, None] - place)).sum(-1),
    }
    return {k: torch.where(real[:, None], v, torch.nan) for k, v in found.items()}


@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("name", KNOWN)
def test_backends_agree_with_the_model_itself(name: str, padding: str) -> None:
    model = tiny(name)
    ids, mask = batch(padding)
    own = eager(model, ids, mask)
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    for row in BACKENDS.values():
        seen = watch(opened(row.name, model), ids, mask)
        states = {**dict(enumerate(own.hidden_states[:-1])), 4: own.hidden_states[-1]}
        assert sorted(seen.hidden) == [0, 1, 2, 3, 4]
        for layer, state in states.items():
            torch.testing.assert_close(
                seen.hidden[layer][real], state[real], atol=1e-5, rtol=0, msg=f"{row.name} {layer}"
            )
        torch.testing.assert_close(seen.final, seen.hidden[4])
        for block, pattern in enumerate(own.attentions, start=1):
            for statistic, wanted in own_rows(pattern, mask).items():
                torch.testing.assert_close(
                    seen.rows[block][statistic].double(),
                    wanted,
                    atol=1e-4,
                    rtol=0,
                    equal_nan=True,
                    msg=f"{row.name} block {block} {statistic}",
                )


@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("name", ["GPT-NeoX parallel", "OLMo-3", "Qwen3", "Gemma-2", "GPT-OSS"])
def test_streamed_and_materialised_rows_agree_in_every_statistic(name: str, padding: str) -> None:
    model = tiny(name)
    ids, mask = batch(padding)
    seen = {kind: watch(opened(kind, model), ids, mask) for kind in ("torch", "transformer_lens")}
    for block in (1, 2, 3):
        ours, theirs = (seen[k].rows[block] for k in ("torch", "transformer_lens"))
        assert ours.keys() == theirs.keys()
        for statistic in ours:
            near(
                statistic, ours[statistic], theirs[statistic],
                atol=conditioned(theirs, 1e-4).get(statistic, 1e-4), rtol=1e-5,
            )  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", KNOWN)
def test_the_self_check_passes_with_either_head(name: str, tied: bool) -> None:
    model = tiny(name, tie_word_embeddings=tied)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert (head.weight is embedding.weight) == tied
    view = own_view(wrap(model))
    for row in BACKENDS.values():
        self_check(opened(row.name, model), view, PRODUCTS)


@pytest.mark.parametrize("name", KNOWN)
def test_the_chunk_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(name)
    ids, mask = batch("right")
    backend = opened("torch", model)
    whole = watch(backend, ids, mask)
    monkeypatch.setattr(attention.streaming, "_ROWS", 3)
    monkeypatch.setattr(attention.streaming, "_BLOCK", 1)
    parts = watch(backend, ids, mask)
    for block, rows in whole.rows.items():
        for statistic, values in rows.items():
            near(
                statistic, parts.rows[block][statistic], values,
                atol=conditioned(rows, 1e-5).get(statistic, 1e-5), rtol=1e-5,
            )  # fmt: skip
    torch.testing.assert_close(parts.final, whole.final, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", KNOWN)
def test_without_a_listener_the_forward_pass_is_the_same(name: str) -> None:
    """Windows, soft caps and left padding count also when nobody asks for attention."""
    model = tiny(name)
    for padding in ("none", "left"):
        ids, mask = batch(padding)
        own = eager(model, ids, mask).hidden_states[-1]
        for kind in ("torch", "nnsight"):
            with torch.inference_mode():
                final = opened(kind, model).observe(
                    ids, mask, layers=frozenset(), hidden=lambda *_: None
                )
            real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
            torch.testing.assert_close(final[real], own[real], atol=1e-5, rtol=0)


def test_the_table_has_every_architecture_that_is_tested() -> None:
    made_here = {name for _, name in OWN_TYPES.values()}  # tested in tests/runs/models
    assert {type(tiny(name)).__name__ for name in KNOWN} == set(ARCHITECTURES) - made_here


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_architecture_is_found_by_convention(name: str) -> None:
    model = tiny(name)
    assert type(model).__name__ not in ARCHITECTURES
    view = own_view(wrap(model))
    products = tuple(p for p in PRODUCTS if p != "attention" or name != "BLOOM")
    for kind in ("torch", "nnsight"):
        self_check(opened(kind, model), view, products)
    self_check(opened("transformer_lens", model), view, PRODUCTS)


def test_attention_that_passes_by_the_interface_is_refused() -> None:
    loaded = wrap(tiny("BLOOM"))
    with pytest.raises(InputError, match=r"leave `attention` out of capture\.products, or set"):
        self_check(TorchHooks(loaded), own_view(loaded), PRODUCTS)


def test_alibi_rows_of_the_kernel_are_those_of_a_model_that_uses_it() -> None:
    """BLOOM's queries and keys, by hooks of our own, through `row_statistics` with its slopes."""
    from transformers.models.bloom.modeling_bloom import _get_alibi_slopes

    model = tiny("BLOOM")
    ids, _ = batch()
    own = eager(model, ids, None)
    fused: list[torch.Tensor] = []
    layer = model.transformer.h[0].self_attention
    handle = layer.query_key_value.register_forward_hook(lambda _, __, out: fused.append(out))
    with torch.inference_mode():
        model(ids, use_cache=False)
    handle.remove()
    qkv = fused[0].view(2, ids.shape[1], 4, 3, 8).permute(3, 0, 2, 1, 4)
    slopes = _get_alibi_slopes(4, ids.device)
    rows = row_statistics(qkv[0], qkv[1], scaling=8**-0.5, bias=slopes)
    wanted = own_rows(own.attentions[0], None)
    torch.testing.assert_close(rows["entropy"].double(), wanted["entropy"], atol=1e-4, rtol=0)
    torch.testing.assert_close(rows["distance"].double(), wanted["distance"], atol=1e-4, rtol=0)


def test_what_no_convention_fits_says_how_to_add_a_row() -> None:
    model = tiny("Llama")
    model.model.norm = torch.nn.Identity()
    model.model.add_module("something", model.model._modules.pop("norm"))
    with pytest.raises(InputError, match=r"add its row to runs/architectures\.py"):
        by_convention(model, "StrangeForCausalLM")


def test_a_head_that_is_not_linear_is_refused() -> None:
    model = tiny("Llama")
    model.lm_head.register_forward_hook(lambda _, __, logits: logits * 0.5)
    loaded = wrap(model)
    with pytest.raises(InputError, match=r"leave `tokens` out of capture\.products"):
        self_check(TorchHooks(loaded), own_view(loaded), PRODUCTS)
    self_check(TorchHooks(loaded), own_view(loaded), ("hidden", "attention"))


def test_half_precision_passes_its_wider_check() -> None:
    for name in ("GPT-NeoX parallel", "Gemma-2", "OLMo-2"):
        loaded = wrap(tiny(name).to(torch.bfloat16))
        self_check(TorchHooks(loaded), own_view(loaded), PRODUCTS)


def test_models_are_left_as_they_were() -> None:
    model = tiny("Llama")
    before = model.config._attn_implementation
    ids, _ = batch()
    own = model(ids).logits
    for kind in ("torch", "nnsight"):
        watch(BACKENDS[kind].open(wrap(model), None), ids, None)
    assert model.config._attn_implementation == before
    assert not any(module._forward_hooks for module in model.modules())
    torch.testing.assert_close(model(ids).logits, own)


@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("kind", ["torch", "nnsight"])
@pytest.mark.parametrize("name", ["GPT-NeoX parallel", "OLMo-2", "Llama", "GPT-2"])
def test_the_fused_kernel_gives_the_same_but_for_the_maximum(
    name: str, kind: str, padding: str
) -> None:
    model = tiny(name)
    ids, mask = batch(padding)
    ours, fused = (watch(opened(kind, model, within), ids, mask) for within in (None, 1e-4))
    for block, rows in ours.rows.items():
        assert torch.isnan(fused.rows[block]["max_logit"]).all()
        for statistic in rows.keys() - {"max_logit", "log_normaliser", "top_mass"}:
            near(
                statistic, fused.rows[block][statistic], rows[statistic],
                atol=conditioned(rows, 1e-4).get(statistic, 1e-4), rtol=1e-5,
            )  # fmt: skip
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(fused.final[real], ours.final[real], atol=1e-5, rtol=0)


def test_where_the_fused_kernel_does_not_apply_rows_are_streamed() -> None:
    """A window in some blocks, a soft cap in all, and a tolerance that nothing meets."""
    ids, _ = batch()
    seen = watch(opened("torch", tiny("OLMo-3"), 1e-4), ids, None)
    fused = [bool(torch.isnan(rows["max_logit"]).all()) for rows in seen.rows.values()]
    assert fused == [False, True, False]
    for model, within in ((tiny("Gemma-2"), 1e-4), (tiny("Llama"), 1e-12)):
        seen = watch(opened("torch", model, within), ids, None)
        assert all(torch.isfinite(rows["max_logit"]).all() for rows in seen.rows.values())


def test_what_a_backend_cannot_do_is_refused_by_name() -> None:
    def table(backend: str, **more: Any) -> CaptureTable:
        return CaptureTable.model_validate({"backend": backend, **more})

    with pytest.raises(InputError, match="`head_ablation` cannot follow"):
        check_supported(table("transformer_lens", visits=("head_ablation",)), where="r.toml")
    fused = table("transformer_lens", attention={"kernel": "fused"})
    with pytest.raises(InputError, match=r"r\.toml: key `capture\.attention\.kernel`"):
        check_supported(fused, where="r.toml")
    check_supported(table("nnsight", visits=("head_ablation",)), where="r.toml")


def test_a_product_that_a_backend_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = BACKENDS["nnsight"]
    monkeypatch.setitem(BACKENDS, "nnsight", replace(row, products={"hidden": "yes"}))
    with pytest.raises(InputError, match=r"r\.toml: key `capture\.products`: .* `moments`"):
        check_supported(CaptureTable(backend="nnsight"), where="r.toml")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.packages._installed", lambda name: None)
    with pytest.raises(InputError, match=r"needs nnsight.+pip install 'phasescope\[backends\]'"):
        check_supported(CaptureTable(backend="nnsight"), where="r.toml")
    check_supported(CaptureTable(), where="r.toml")


def test_what_is_no_language_model_is_refused() -> None:
    with pytest.raises(InputError, match="Linear is not a Hugging Face causal language model"):
        backend_of(torch.nn.Linear(2, 2))
    from nnsight import NNsight

    with pytest.raises(InputError, match="NNsight: LlamaModel is not a Hugging Face causal"):
        backend_of(NNsight(tiny("Llama").model))


def test_what_a_block_computes_can_be_inspected() -> None:
    """Any probability follows from q, k and the normaliser, as the model's own patterns have it."""
    model = tiny("Llama")
    ids, _ = batch("none")
    own = eager(model, ids, None)
    seen = {}

    def inspect(
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rule: Mapping[str, Any],
        statistics: Mapping[str, torch.Tensor],
        output: torch.Tensor,
    ) -> None:
        shared = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        logits = query @ shared.transpose(-1, -2) * rule["scaling"]
        seen[block] = (logits - statistics["log_normaliser"][..., None]).exp()
        assert value.shape == key.shape

    loaded = wrap(copy.deepcopy(model))
    with (
        torch.inference_mode(),
        attention_as(loaded.model, register()),
        AttentionTap(inspect=inspect),
    ):
        loaded.forward(ids)
    for block, pattern in enumerate(own.attentions, start=1):
        torch.testing.assert_close(seen[block].tril(), pattern, atol=1e-5, rtol=0)
