"""A visit that asks the loss's gradient how much each head matters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from runs.attention_tap import attention_as
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.projections import output_projection
from runs.visits.base import VisitRow

_LOGITS = 2**25  # entries of the logits of the samples that go together


def head_gradients(
    loaded: LoadedModel,
    tokens: NDArray[np.int32],
    length: NDArray[np.int32],
    *,
    vocabulary: int,
    gates: torch.Tensor | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss of each sample, and its derivative by a gate ξ on every head's output.

    Parameters
    ----------
    loaded
        A model whose attention is one of the known kinds.
    tokens, length : int arrays (sample, position) and (sample,)
    vocabulary
        Entries of the unembedding that are tokens.
    gates : tensor (block, head), optional
        Where the derivative is taken; by default all 1, the model as it is.

    Returns
    -------
    loss : float64 array (sample,)
        Mean surprisal in nats.
    gradient : float64 array (block, head, sample)

    Notes
    -----
    ξ multiplies the head's output before the output projection (Michel, Levy & Neubig 2019, arXiv
    1905.10650, eq. 1). One forward and one backward pass a sample; memory of the activations, of
    attention matrices where a model caps its logits, and of one sample's logits.
    """
    shape = loaded.shape
    ids = torch.as_tensor(tokens, dtype=torch.long, device=loaded.device)
    count = max(1, _LOGITS // (ids.shape[1] * vocabulary))
    base = torch.ones(shape.blocks, shape.heads) if gates is None else gates
    losses, gradients = [], []
    with attention_as(loaded.model, _differentiable(loaded.model)), torch.enable_grad():
        for start in range(0, len(ids), count):
            rows = slice(start, start + count)
            each = base.to(loaded.device).repeat(len(ids[rows]), 1, 1).requires_grad_()
            with _gated(loaded, each):
                loss = _losses(loaded, ids[rows], torch.as_tensor(length[rows]), vocabulary)
            # A sample's gate moves that sample's loss alone, so one backward pass serves all.
            (gradient,) = torch.autograd.grad(loss.sum(), each)
            losses.append(loss.detach().double().cpu().numpy())
            gradients.append(gradient.double().cpu().numpy())
    return np.concatenate(losses), np.moveaxis(np.concatenate(gradients), 0, -1)


def _losses(
    loaded: LoadedModel, ids: torch.Tensor, length: torch.Tensor, vocabulary: int
) -> torch.Tensor:
    """Mean surprisal of each sample, with a gradient."""
    state = loaded.forward(ids)[:, :-1]
    head = loaded.unembedding.on(state.device)
    logits = head.logits(state)[..., :vocabulary]
    targets = ids[:, 1:].to(logits.device)
    surprisal = logits.logsumexp(-1) - logits.gather(-1, targets[..., None])[..., 0]
    valid = (torch.arange(1, ids.shape[1]) < length[:, None]).to(logits.device)
    return (surprisal * valid).sum(-1) / valid.sum(-1)


@contextmanager
def _gated(loaded: LoadedModel, gates: torch.Tensor) -> Iterator[None]:
    """Multiply the outputs of all heads by gates (sample, block, head)."""

    def hook(number: int) -> Any:
        def multiply(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            z = inputs[0]
            gate = gates[:, number].to(z.device, z.dtype)[:, None, :, None]
            by_head = z.view(*z.shape[:2], gates.shape[2], -1)
            return ((by_head * gate).flatten(2), *inputs[1:])

        return multiply

    handles = [
        output_projection(block).register_forward_pre_hook(hook(number))
        for number, block in enumerate(loaded.blocks)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _differentiable(model: Any) -> str:
    """Attention with a gradient that honours everything the model does to its logits."""
    capped = getattr(model.config, "attn_logit_softcapping", None) is not None
    sinks = any(name.endswith(".sinks") for name, _ in model.named_parameters())
    alibi = getattr(model.config, "model_type", "") == "bloom"
    return "eager" if capped or sinks or alibi else "sdpa"


def _visit(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    count = min(spec.capture.head_importance.samples, spec.inputs.samples)
    loss, gradient = head_gradients(
        loaded,
        spec.inputs.tokens[:count],
        spec.inputs.length[:count],
        vocabulary=spec.vocabulary,
    )
    return xr.Dataset(
        {
            "loss": (("gated_sample",), loss),
            "gradient": (("block", "head", "gated_sample"), gradient),
        }
    )


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    count = min(spec.capture.head_importance.samples, spec.inputs.samples)
    shape = (spec.shape.blocks, spec.shape.heads, count)
    nan, units = float("nan"), {"units": "nats"}
    return {
        "loss": ArraySpec(("gated_sample",), (count,), "float64", nan, (count,), units),
        "gradient": ArraySpec(
            ("block", "head", "gated_sample"), shape, "float64", nan, shape, units
        ),
    }


ROW = VisitRow(
    "head_importance",
    _visit,
    _layout,
    lambda capture: capture.head_importance.model_dump(),
    version=1,
    source="derivative of the loss by a gate on the head's output, arXiv 1905.10650 §2.3",
)
