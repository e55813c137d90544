"""Gradients by gates on heads, against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runs.attention_tap import register
from runs.visits.head_importance import head_gradients
from tests.runs.test_repeated import EVERY, loaded_tiny, spec_of
from tests.runs.zoo import VOCABULARY


@pytest.mark.parametrize("name", [n for n in EVERY if n != "BLOOM"])
def test_gradients_are_finite_differences(name: str) -> None:
    # Every expert takes every token: a change of route would be a step. Torch multiplies them in single
    # precision only.
    all_of_them = {
        "OLMoE": {"num_experts_per_tok": 4},
        "GPT-OSS": {"num_local_experts": 2, "num_experts_per_tok": 2},
    }
    loaded, experts = loaded_tiny(name, **all_of_them.get(name, {})), name in all_of_them
    if not experts:
        loaded.model.double()
    spec = spec_of(loaded)
    tokens, length = spec.inputs.tokens[:3], spec.inputs.length[:3].copy()
    length[1] = 12  # padding is no loss
    _, found = head_gradients(loaded, tokens, length, vocabulary=VOCABULARY)
    step = 3e-2 if experts else 3e-3
    for block, head in ((0, 0), (1, 3), (2, 1)):
        sides = []
        for sign in (1, -1):
            gates = torch.ones(3, 4, dtype=torch.float32 if experts else torch.float64)
            gates[block, head] += sign * step
            sides.append(
                head_gradients(loaded, tokens, length, vocabulary=VOCABULARY, gates=gates)[0]
            )
        wanted = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(
            found[block, head], wanted, atol=(2e-2 if experts else 1e-3) * np.abs(found).max()
        )


def test_the_loss_of_the_gradient_is_the_loss() -> None:
    loaded = loaded_tiny("GPT-NeoX parallel")
    spec = spec_of(loaded)
    args = (spec.inputs.tokens, spec.inputs.length)
    loss, _ = head_gradients(loaded, *args, vocabulary=VOCABULARY)
    np.testing.assert_allclose(loss, loaded.ablated_losses(*args, None), atol=1e-5)
    assert loaded.model.config._attn_implementation == register()
