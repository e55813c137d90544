"""Loading one checkpoint: whole, checked, and digested."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from runs.architectures import ModelShape, check_hidden, find_modules, model_shape
from runs.attention_tap import AttentionTap, register
from runs.errors import CheckpointError, InputError
from runs.hooks import hidden_hooks

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_ALLOWED_UNEXPECTED = ("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias")


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory, with the modules that hooks attach to."""

    model: Any
    blocks: list[nn.Module]
    final_norm: nn.Module
    shape: ModelShape
    device: torch.device

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Final hidden states (sample, position, feature); the unembedding is not computed."""
        state: torch.Tensor = self.model.base_model(
            input_ids=tokens, use_cache=False
        ).last_hidden_state
        return state

    @property
    def unembedding(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight (vocabulary, feature) and bias of the output embedding."""
        head = self.model.get_output_embeddings()
        return head.weight, getattr(head, "bias", None)

    def ablated_losses(
        self, tokens: NDArray[np.int32], length: NDArray[np.int32], head: tuple[int, int] | None
    ) -> NDArray[np.float64]:
        """Mean surprisal in nats of each sample, with one (block, head) silenced or none."""
        from probes.tokens import token_statistics

        ids = torch.as_tensor(tokens, dtype=torch.long, device=self.device)
        valid = torch.arange(ids.shape[1]) < torch.as_tensor(length)[:, None]
        weight, bias = self.unembedding
        with torch.inference_mode(), AttentionTap(zero_head=head):
            state = self.forward(ids)[:, :-1]
            targets = torch.where(valid[:, 1:].to(self.device), ids[:, 1:], -1)
            losses = token_statistics(state, weight, targets, bias=bias)["surprisal"]
        means: NDArray[np.float64] = np.nanmean(losses.double().cpu().numpy(), axis=1)
        return means


def read_shape(path: Path) -> ModelShape:
    """Sizes of the model in a checkpoint folder, without loading weights.

    Raises
    ------
    InputError
        If `config.json` is missing or names an unknown architecture.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:  # transformers raises many kinds here
        raise InputError(f"{path}: config.json cannot be read ({_line(error)})") from None
    return model_shape(config, where=str(path))


def load_model(path: Path, *, dtype: str = "float32", device: str = "cpu") -> LoadedModel:
    """Load one checkpoint for capture.

    Parameters
    ----------
    path
        Folder with `config.json` and safetensors (or `.bin`) weights.
    dtype
        Arithmetic of the forward pass.
    device
        Where it runs.

    Returns
    -------
    LoadedModel

    Raises
    ------
    CheckpointError
        If weights are missing, truncated, unexpected, mismatched, or hold NaN or Inf.
    """
    from transformers import AutoModelForCausalLM

    if not any(next(path.glob(pattern), None) for pattern in _WEIGHTS):
        raise CheckpointError(f"{path}: no weights (*.safetensors or pytorch_model*.bin)")
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            output_loading_info=True,
            attn_implementation=register(),
        )
    except Exception as error:  # a damaged file fails in the reader's own way
        raise CheckpointError(f"{path}: the weights cannot be loaded ({_line(error)})") from None
    _check_keys(path, info)
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} holds NaN or Inf")
    try:
        target = torch.device(device)
        model = model.to(target).eval()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"capture.device: {device!r} cannot be used ({_line(error)})") from None
    shape = model_shape(model.config, where=str(path))
    blocks, final_norm = find_modules(model, shape.architecture)
    return LoadedModel(model, blocks, final_norm, shape, target)


def self_check(loaded: LoadedModel) -> None:
    """Compare hooks and attention rows with what the model itself reports, on eight tokens.

    Raises
    ------
    InputError
        If a hooked layer differs from `output_hidden_states`, or a row statistic is not finite where
        a row with two visible keys must give one.
    """
    ids = torch.arange(8, device=loaded.device)[None] % loaded.shape.vocabulary
    seen: dict[int, torch.Tensor] = {}
    rows: dict[int, dict[str, torch.Tensor]] = {}
    with (
        torch.inference_mode(),
        hidden_hooks(loaded.blocks, loaded.final_norm, lambda i, x: seen.update({i: x.clone()})),
        AttentionTap(listener=lambda block, statistics: rows.update({block: statistics})),
    ):
        output = loaded.model.base_model(input_ids=ids, use_cache=False, output_hidden_states=True)
    check_hidden(seen, output.hidden_states)
    for block in range(1, loaded.shape.blocks + 1):
        entropy = rows.get(block, {}).get("entropy")
        ceiling = torch.log(torch.arange(1.0, 9.0, device=loaded.device)) + 1e-4
        if entropy is None or not bool((entropy <= ceiling).all()):
            raise InputError(
                f"self-check: attention rows of block {block} are not probabilities over the visible "
                "keys; this architecture needs a row in runs/architectures.py"
            )


def weights_digest(path: Path) -> str:
    """SHA-256 over the weight files of a checkpoint folder, in name order; reads 1 MB at a time."""
    state = hashlib.sha256()
    for file in sorted(f for pattern in _WEIGHTS for f in path.glob(pattern)):
        state.update(file.name.encode())
        try:
            with file.open("rb") as content:
                while part := content.read(1 << 20):
                    state.update(part)
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    return state.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own bars and advice off the screen."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _check_keys(path: Path, info: dict[str, Any]) -> None:
    missing = sorted(info.get("missing_keys", ()))
    unexpected = sorted(
        k for k in info.get("unexpected_keys", ()) if not str(k).endswith(_ALLOWED_UNEXPECTED)
    )
    mismatched = sorted(str(k) for k in info.get("mismatched_keys", ()))
    for kind, keys in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("mismatched", mismatched),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise CheckpointError(f"{path}: {kind} weights: {keys[0]}{more}")


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
