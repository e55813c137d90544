"""Token statistics: what the model predicts at every position."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from probes.tokens import token_statistics
from runs.loaded import Unembedding
from runs.products.base import Arrays, ArraySpec, Batch, HiddenOnly, Spec
from runs.tables import CaptureTable

_DTYPES = {
    "surprisal": "float32",
    "entropy": "float32",
    "varentropy": "float32",
    "top1": "int32",
    "target_rank": "int32",
}
_UNITS = {"surprisal": "nats", "entropy": "nats", "varentropy": "nats²"}


class Tokens:
    """`surprisal`, `entropy`, `varentropy`, `top1`, `target_rank` at every (sample, position).

    Position i speaks of token i + 1; NaN or −1 where there is none.
    """

    name = "tokens"

    def options(self, capture: CaptureTable) -> Mapping[str, object]:
        """Nothing of the recipe."""
        return {}

    def layout(self, spec: Spec) -> dict[str, ArraySpec]:
        """Five arrays, one chunk a checkpoint each."""
        shape = spec.inputs.tokens.shape
        return {
            name: ArraySpec(
                ("sample", "position"),
                shape,
                dtype,
                float("nan") if dtype.startswith("float") else -1,
                shape,
                {"units": _UNITS[name]} if name in _UNITS else {},
            )
            for name, dtype in _DTYPES.items()
        }

    def coordinates(self, spec: Spec) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """None; sample and position are the set's."""
        return {}

    def collector(self, spec: Spec, unembedding: Unembedding) -> TokensCollector:
        """Five arrays of (sample, position); logits exist a few rows at a time."""
        return TokensCollector(spec, unembedding)


class TokensCollector(HiddenOnly):
    """Unembeds the final state where there is a real token."""

    def __init__(self, spec: Spec, unembedding: Unembedding) -> None:
        self._unembedding = unembedding
        self._vocabulary = spec.vocabulary
        self._final = spec.shape.layers - 1
        self._arrays = {
            name: np.full(array.shape, array.fill, array.dtype)
            for name, array in Tokens().layout(spec).items()
        }

    def layers(self) -> frozenset[int]:
        """The final one."""
        return frozenset({self._final})

    def hidden(self, layer: int, state: torch.Tensor, batch: Batch) -> None:
        """Score one block."""
        if layer != self._final:
            return
        following = torch.nn.functional.pad(batch.tokens[:, 1:], (0, 1), value=-1)
        has_target = torch.nn.functional.pad(batch.mask[:, 1:], (0, 1), value=False)
        targets = torch.where(has_target, following, -1)
        mask = batch.mask
        self._unembedding = head = self._unembedding.on(state.device)
        found = token_statistics(
            state[mask],
            head.weight,
            targets[mask],
            bias=head.bias,
            vocab_size=self._vocabulary,
            softcap=head.softcap,
        )
        where = mask.cpu().numpy()
        width = where.shape[1]
        for name, array in self._arrays.items():
            block = array[batch.samples, :width]
            block[where] = found[name].cpu().numpy()
            array[batch.samples, :width] = block

    def finish(self) -> Arrays:
        """The five arrays."""
        return dict(self._arrays)
