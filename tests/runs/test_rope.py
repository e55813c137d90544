"""Another rotary base and scaled logits: set, restored, and refused where they mean nothing."""

from __future__ import annotations

import pytest
import torch

from runs.attention_tap import AttentionTap, attention_as, register
from runs.errors import InputError
from runs.loaded import wrap
from runs.rope import rope_base, rotary_modules
from runs.visits.entropy_scaled import scaled_logits
from tests.runs.zoo import batch, tiny


@pytest.mark.parametrize("name", ["GPT-NeoX parallel", "Llama", "OLMo-2", "Gemma-2"])
def test_a_base_is_set_and_restored(name: str) -> None:
    model, (ids, _) = tiny(name), batch()
    with torch.inference_mode():
        before = model(ids).logits
        frequencies = [m.inv_freq.clone() for m in rotary_modules(model)]
        with rope_base(model, 300.0):
            inside = model(ids).logits
        after = model(ids).logits
        built = tiny(
            name,
            rope_parameters={**model.config.rope_parameters, "rope_theta": 300.0},
        )
        torch.testing.assert_close(inside, built(ids).logits, atol=1e-5, rtol=0)
    assert (before - inside).abs().max() > 1e-4
    torch.testing.assert_close(before, after, atol=0, rtol=0)
    kept = [m.inv_freq for m in rotary_modules(model)]
    assert all(torch.equal(a, b) for a, b in zip(kept, frequencies, strict=True))
    with pytest.raises(RuntimeError, match="stop"), rope_base(model, 300.0):
        raise RuntimeError("stop")
    assert all(
        torch.equal(m.inv_freq, f) for m, f in zip(rotary_modules(model), frequencies, strict=True)
    )


def test_what_has_no_plain_rotary_embedding_is_refused() -> None:
    with pytest.raises(InputError, match="GPT2LMHeadModel has no rotary embedding"):
        rotary_modules(tiny("GPT-2"))
    scaled = tiny(
        "Llama",
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    )
    with pytest.raises(InputError, match="scales its rotary embedding"):
        rotary_modules(scaled)


@pytest.mark.parametrize("name", ["GPT-NeoX parallel", "Llama", "Gemma-2", "GPT-2"])
def test_scaled_logits_are_restored_and_spare_the_first_blocks(name: str) -> None:
    loaded, (ids, _) = wrap(tiny(name)), batch()

    def entropies() -> dict[int, torch.Tensor]:
        seen: dict[int, torch.Tensor] = {}
        with torch.inference_mode(), AttentionTap(lambda b, s: seen.update({b: s["entropy"]})):
            loaded.forward(ids)
        return seen

    with attention_as(loaded.model, register()):
        before = entropies()
        with scaled_logits(loaded.model, context=4, exempt=2):
            inside = entropies()
        after = entropies()
    for block in (1, 2):
        torch.testing.assert_close(inside[block], before[block], atol=0, rtol=0)
    assert (inside[3] - before[3]).abs().max() > 1e-4
    torch.testing.assert_close(inside[3][..., :4], before[3][..., :4], atol=1e-6, rtol=0)
    torch.testing.assert_close(after[3], before[3], atol=0, rtol=0)
