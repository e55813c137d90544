"""What every capture backend is: one forward pass with somebody listening."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from runs.loaded import LoadedModel

HiddenListener = Callable[[int, torch.Tensor], None]
AttentionListener = Callable[[int, dict[str, torch.Tensor]], None]


class Backend(Protocol):
    """Runs a loaded model and reports what it sees.

    Attributes
    ----------
    loaded : LoadedModel
        The model, its shape and its unembedding.
    """

    loaded: LoadedModel

    def observe(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        layers: frozenset[int],
        hidden: HiddenListener,
        attention: AttentionListener | None = None,
    ) -> torch.Tensor:
        """Do one forward pass.

        Parameters
        ----------
        tokens : int64 tensor (sample, position)
        mask : bool tensor (sample, position) or None
            True at real tokens; None if all are.
        layers
            Layers to report, of 0 … L+1.
        hidden
            Called with (layer, state (sample, position, feature)) in order of the layers. The state is
            the model's own tensor: clone what is kept.
        attention
            Called with (block, row statistics (sample, head, position)), see
            `attention.streaming.row_statistics`; None computes none.

        Returns
        -------
        tensor (sample, position, feature)
            Layer L+1.
        """
        ...
