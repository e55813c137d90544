"""Rotary embeddings of a loaded model with another base, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from runs.errors import InputError


@contextmanager
def rope_base(model: Any, base: float) -> Iterator[None]:
    """Let a model turn queries and keys by frequencies of another base.

    Parameters
    ----------
    model
        A Hugging Face causal language model with plain rotary embeddings; restored afterwards, its
        configuration included.
    base
        The base of θ_i = base^(−2i/d); 500 000 in arXiv 2401.07004.

    Raises
    ------
    InputError
        If the model has no rotary embedding, or one that is not plain: there, what a base does is another
        question.
    """
    modules = rotary_modules(model)
    table = model.config.rope_parameters
    own, frequencies = table["rope_theta"], [m.inv_freq for m in modules]
    try:
        table["rope_theta"] = float(base)
        for module in modules:
            fresh, _ = module.compute_default_rope_parameters(module.config)
            module.inv_freq = fresh.to(module.inv_freq)
        yield
    finally:
        table["rope_theta"] = own
        for module, kept in zip(modules, frequencies, strict=True):
            module.inv_freq = kept


def rotary_modules(model: Any) -> list[Any]:
    """The modules that hold the frequencies of a model's plain rotary embeddings.

    Raises
    ------
    InputError
        If there are none, or what their configuration says does not make their frequencies.
    """
    name = type(model).__name__
    found = [m for m in model.modules() if hasattr(m, "compute_default_rope_parameters")]
    table = getattr(model.config, "rope_parameters", None)
    if not found or not isinstance(table, dict) or "rope_theta" not in table:
        raise InputError(
            f"{name} has no rotary embedding whose base could be set; leave `base` out"
        )
    if table.get("rope_type", "default") != "default" or any(not _plain(m, table) for m in found):
        raise InputError(
            f"{name} scales its rotary embedding ({table.get('rope_type')}); a base can be set for plain "
            "ones only, so leave `base` out"
        )
    return found


def _plain(module: nn.Module, table: dict[str, Any]) -> bool:
    """Whether the module reads this table, and its frequencies are what it makes of it."""
    kept, config = getattr(module, "inv_freq", None), getattr(module, "config", None)
    if not isinstance(kept, torch.Tensor) or getattr(config, "rope_parameters", None) is not table:
        return False
    compute: Any = module.compute_default_rope_parameters
    fresh, _ = compute(config)
    return bool(torch.allclose(fresh.to(kept), kept, rtol=1e-3))
