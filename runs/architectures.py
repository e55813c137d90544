"""Architectures: where a model keeps its decoder blocks, and a self-check that it is so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from runs.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """Names of the modules that hooks attach to.

    Attributes
    ----------
    blocks : str
        Path of the list of decoder blocks. Block i writes layer i; block 1 reads layer 0.
    final_norm : str
        Path of the norm before the unembedding; its output is layer L+1.
    """

    blocks: str
    final_norm: str


ARCHITECTURES: dict[str, Architecture] = {
    "GPTNeoXForCausalLM": Architecture("gpt_neox.layers", "gpt_neox.final_layer_norm"),
}


@dataclass(frozen=True)
class ModelShape:
    """The sizes that decide how arrays are laid out."""

    architecture: str
    blocks: int
    width: int
    heads: int
    vocabulary: int

    @property
    def layers(self) -> int:
        """Number of layers L + 2: embedding, L blocks, after the final norm."""
        return self.blocks + 2

    @property
    def layer_names(self) -> list[str]:
        """Names of layers 0 … L+1."""
        return ["embedding", *(str(i) for i in range(1, self.blocks + 1)), "final"]


def model_shape(config: Any, *, where: str) -> ModelShape:
    """Read the sizes from a Hugging Face configuration.

    Raises
    ------
    InputError
        If the architecture is not in the table.
    """
    names = list(getattr(config, "architectures", None) or [])
    known = next((name for name in names if name in ARCHITECTURES), None)
    if known is None:
        raise InputError(
            f"{where}: architecture {', '.join(names) or 'unnamed'} is not known; known are "
            f"{', '.join(ARCHITECTURES)}. Add a row to runs/architectures.py (see CONTRIBUTING.md)"
        )
    return ModelShape(
        architecture=known,
        blocks=int(config.num_hidden_layers),
        width=int(config.hidden_size),
        heads=int(config.num_attention_heads),
        vocabulary=int(config.vocab_size),
    )


def find_modules(model: nn.Module, architecture: str) -> tuple[list[nn.Module], nn.Module]:
    """The decoder blocks and the final norm of a model.

    Raises
    ------
    InputError
        If the table's names are not there.
    """
    row = ARCHITECTURES[architecture]
    try:
        blocks = list(model.get_submodule(row.blocks).children())
        final_norm = model.get_submodule(row.final_norm)
    except AttributeError as error:
        raise InputError(
            f"{architecture}: {error}; mend its row in runs/architectures.py"
        ) from None
    return blocks, final_norm


def check_hidden(seen: dict[int, torch.Tensor], expected: tuple[torch.Tensor, ...]) -> None:
    """Compare hooked layers with `output_hidden_states`.

    Parameters
    ----------
    seen
        Layer to (sample, position, feature), layers 0 … L+1.
    expected
        What the model itself reports: L + 1 entries, of which the last is after the final norm.

    Raises
    ------
    InputError
        If a layer differs by more than 1e-4 of its largest value.
    """
    blocks = len(expected) - 1
    pairs = {**{i: expected[i] for i in range(blocks)}, blocks + 1: expected[blocks]}
    for layer, wanted in pairs.items():
        got = seen.get(layer)
        if got is None or got.shape != wanted.shape:
            raise InputError(f"self-check: layer {layer} was not seen by the hooks")
        scale = wanted.abs().max().clamp_min(1.0)
        if not torch.allclose(got / scale, wanted / scale, atol=1e-4, rtol=0):
            raise InputError(
                f"self-check: the hooks' layer {layer} differs from the model's own hidden state; "
                "mend the architecture's row in runs/architectures.py"
            )
