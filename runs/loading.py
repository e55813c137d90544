"""Loading one checkpoint: whole, checked, and digested."""

from __future__ import annotations

import atexit
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from runs.architectures import OWN_TYPES, ModelShape, image_text_name, model_shape
from runs.attention_tap import register, set_attention
from runs.errors import CheckpointError, InputError, line_of
from runs.integrity import GGUF, weight_files
from runs.loaded import LoadedModel, materialised, wrap

_ALLOWED_UNEXPECTED = ("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias")


def read_shape(path: Path) -> ModelShape:
    """Sizes of the model in a checkpoint folder or GGUF file, without loading weights.

    Raises
    ------
    InputError
        If the configuration is missing or is not one of a decoder with attention.
    """
    return model_shape(_configuration(path), where=str(path))


def _configuration(path: Path) -> Any:
    from transformers import AutoConfig

    register_own_type(path)
    folder, options = source_of(path)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # transformers raises many kinds here
        what = "the GGUF header" if options else "config.json"
        raise InputError(f"{path}: {what} cannot be read ({line_of(error)})") from None


def register_own_type(path: Path) -> None:
    """Make transformers know the checkpoint's model type, if it is one of our own."""
    try:
        kind = json.loads((path / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # the reader says what is wrong
    if isinstance(kind, str) and kind in OWN_TYPES:
        import_module(OWN_TYPES[kind][0])


def source_of(path: Path) -> tuple[Path, dict[str, str]]:
    """Where `from_pretrained` finds a checkpoint, and what else it must be told."""
    if path.suffix == GGUF:
        return path.parent, {"gguf_file": path.name}
    return path, {}


def load_model(
    path: Path, *, dtype: str = "float32", device: str = "cpu", device_map: str | None = None
) -> LoadedModel:
    """Load one checkpoint for capture.

    One whose architecture reads images is loaded whole, with its vision tower; what is captured of it
    is its text decoder.

    Parameters
    ----------
    path
        Folder with `config.json` and safetensors (or `.bin`) weights, or a GGUF file, which is
        dequantised.
    dtype
        Arithmetic of the forward pass.
    device
        Where it runs: `cpu`, `cuda`, `cuda:1`, `mps`.
    device_map
        Spread the model over devices, memory and disk instead: `auto`, `balanced` or `sequential`, as
        accelerate has it.

    Returns
    -------
    LoadedModel

    Raises
    ------
    CheckpointError
        If weights are missing, truncated, unexpected, mismatched, or hold NaN or Inf.
    InputError
        If the device cannot be used.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    folder, options = source_of(path)
    weight_files(path)
    if device_map is not None:
        options |= {"device_map": device_map, "offload_folder": _offload()}
    try:
        sees = path.suffix != GGUF and image_text_name(_configuration(path)) is not None
        reader = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        with _no_bar(path):
            model, info = reader.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # a damaged file fails in the reader's own way
        raise CheckpointError(f"{path}: the weights cannot be loaded ({line_of(error)})") from None
    _check_keys(path, info)
    _check_finite(path, model)
    try:
        model = model.eval() if device_map is not None else model.to(torch.device(device)).eval()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"capture.device: {device!r} cannot be used ({line_of(error)})") from None
    if model._can_set_attn_implementation():
        set_attention(model, register())
    return wrap(model, device=_entry(model, device), where=str(path))


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


def _no_bar(path: Path) -> AbstractContextManager[Any]:
    """The bar of GGUF conversion cannot be switched off, only written elsewhere."""
    return redirect_stderr(io.StringIO()) if path.suffix == GGUF else nullcontext()


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


def _entry(model: Any, device: str) -> torch.device:
    """Where inputs go; what a device map keeps in memory or on disk is computed on the first device."""
    places = getattr(model, "hf_device_map", {}).values()
    first = next((place for place in places if place not in ("cpu", "disk")), None)
    if first is None:
        return torch.device("cpu" if places else device)
    return torch.device("cuda", first) if isinstance(first, int) else torch.device(first)


def _check_finite(path: Path, model: Any) -> None:
    for place, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            if not bool(torch.isfinite(materialised(module, name)).all()):
                raise CheckpointError(f"{path}: {place}.{name} holds NaN or Inf")


@cache
def _offload() -> str:
    """A folder for what fits nowhere else, gone with this process."""
    folder = tempfile.mkdtemp(prefix="phasescope-offload-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
