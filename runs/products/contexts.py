"""How alike the model's predictions are between a few fixed contexts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from geometry.predictive import bhattacharyya_kernel
from runs.loaded import Unembedding
from runs.products.base import Arrays, ArraySpec, Batch, HiddenOnly, Spec
from runs.tables import CaptureTable


class Contexts:
    """`kernel` (context, other_context): Bhattacharyya coefficients of next-token distributions.

    A context is a sample up to its last token: context i is point i, as `hidden` keeps it.
    """

    name = "contexts"

    def options(self, capture: CaptureTable) -> Mapping[str, object]:
        """How many."""
        return capture.contexts.model_dump()

    def layout(self, spec: Spec) -> dict[str, ArraySpec]:
        """One array, one chunk a checkpoint."""
        count = _count(spec)
        return {
            "kernel": ArraySpec(
                ("context", "other_context"),
                (count, count),
                "float32",
                float("nan"),
                (count, count),
                {"long_name": "Bhattacharyya coefficient of predictions", "units": "1"},
            )
        }

    def coordinates(self, spec: Spec) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """The sample and position of each context."""
        count = _count(spec)
        return {
            "context_sample": (("context",), spec.points.sample[:count]),
            "context_position": (("context",), spec.points.position[:count]),
        }

    def collector(self, spec: Spec, unembedding: Unembedding) -> ContextsCollector:
        """The contexts' final states; the kernel is made when all are there."""
        return ContextsCollector(spec, unembedding)


def _count(spec: Spec) -> int:
    return min(spec.capture.contexts.count, int(spec.points.last.sum()))


class ContextsCollector(HiddenOnly):
    """Keeps the final states of the first samples' last tokens."""

    def __init__(self, spec: Spec, unembedding: Unembedding) -> None:
        self._spec, self._unembedding = spec, unembedding
        self._final = spec.shape.layers - 1
        self._states = torch.full((_count(spec), spec.shape.width), torch.nan)

    def layers(self) -> frozenset[int]:
        """The final one."""
        return frozenset({self._final})

    def hidden(self, layer: int, state: torch.Tensor, batch: Batch) -> None:
        """Copy what is a context of this block."""
        rows = np.flatnonzero(batch.samples < len(self._states))
        if layer != self._final or not len(rows):
            return
        chosen = torch.as_tensor(rows, device=state.device)
        last = batch.mask.sum(1)[chosen] - 1
        # Last tokens come first among the points, one a sample in order.
        self._states[batch.samples[rows]] = state[chosen, last].float().cpu()

    def finish(self) -> Arrays:
        """The kernel, in float32."""
        head = self._unembedding
        if head.weight.device.type == "mps":  # it has no float64
            head = head.on(torch.device("cpu"))
        with torch.inference_mode():
            kernel = bhattacharyya_kernel(
                self._states.to(head.weight.device),
                head.weight,
                bias=head.bias,
                vocab_size=self._spec.vocabulary,
                softcap=head.softcap,
            )
        return {"kernel": kernel.cpu().numpy().astype(np.float32)}
