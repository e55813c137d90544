"""Capture backends, one a file, and the table of what each can give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runs.backends.base import AttentionListener, Backend, HiddenListener
from runs.backends.torch_hooks import TorchHooks
from runs.errors import InputError
from runs.loaded import LoadedModel, wrap
from runs.packages import require_extra
from runs.tables import CaptureTable


@dataclass(frozen=True)
class BackendRow:
    """One backend of the table.

    Attributes
    ----------
    name : str
        What `capture.backend` takes.
    open
        From a loaded model, and the error up to which the fused attention kernel may be used or None, to
        a backend.
    products : mapping of str to str
        Products it can give, and how.
    visits : bool
        Whether visits, which use the registered attention function, can follow on the same model.
    package : str
        What has to be installed; "" for nothing more.
    """

    name: str
    open: Callable[[LoadedModel, float | None], Backend]
    products: Mapping[str, str]
    visits: bool
    package: str = ""


def _torch(loaded: LoadedModel, fused_within: float | None) -> Backend:
    return TorchHooks(loaded, fused_within=fused_within)


def _nnsight(loaded: LoadedModel, fused_within: float | None) -> Backend:
    from runs.backends.nnsight import NNsightTraces

    return NNsightTraces(loaded, fused_within=fused_within)


def _lens(loaded: LoadedModel, fused_within: float | None) -> Backend:
    from runs.backends.lens import LensBridge

    return LensBridge(loaded)


_STATES = dict.fromkeys(
    ("hidden", "moments", "tokens", "fisher", "contexts", "trajectory", "massive"), "yes"
)

BACKENDS: dict[str, BackendRow] = {
    row.name: row
    for row in (
        BackendRow("torch", _torch, {**_STATES, "attention": "streamed"}, visits=True),
        BackendRow(
            "nnsight",
            _nnsight,
            {**_STATES, "attention": "streamed"},
            visits=True,
            package="nnsight",
        ),
        BackendRow(
            "transformer_lens",
            _lens,
            {**_STATES, "attention": "from T×T patterns"},
            visits=False,
            package="transformer-lens",
        ),
    )
}


def open_backend(loaded: LoadedModel, capture: CaptureTable) -> Backend:
    """The backend that a recipe names, around a loaded model, which some change in place."""
    return BACKENDS[capture.backend].open(loaded, fused_within(capture))


def fused_within(capture: CaptureTable) -> float | None:
    """The error up to which a recipe allows the fused attention kernel; None if it does not."""
    return capture.attention.tolerance if capture.attention.kernel == "fused" else None


def check_supported(capture: CaptureTable, *, where: str) -> None:
    """Refuse what a backend cannot give, before anything is loaded.

    Raises
    ------
    InputError
        Naming the key, what the backend has, and the mend.
    """
    name, products, visits = capture.backend, capture.products, capture.visits
    row = BACKENDS[name]
    if fused_within(capture) is not None and row.products.get("attention") != "streamed":
        raise InputError(
            f"{where}: key `capture.attention.kernel`: backend `{name}` has no fused kernel; leave it "
            'out, or set capture.backend = "torch"'
        )
    for product in products:
        if product not in row.products:
            raise InputError(
                f"{where}: key `capture.products`: backend `{name}` cannot give `{product}`; it has "
                f'{", ".join(row.products)}. Leave it out, or set capture.backend = "torch"'
            )
    if visits and not row.visits:
        raise InputError(
            f"{where}: key `capture.visits`: backend `{name}` changes the model, so `{visits[0]}` cannot "
            'follow on it; leave it out, or set capture.backend = "torch"'
        )
    if row.package:
        require_extra("backends", row.package, where=f"{where}: key `capture.backend`: `{name}`")


def backend_of(model: Any, *, fused_within: float | None = None) -> Backend:
    """A backend around what a user has in memory.

    Parameters
    ----------
    model
        A Hugging Face causal language model, an `NNsight` around one, a `TransformerBridge`, or a
        backend.
    fused_within
        As `AttentionTap`; the latter two do without.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if hasattr(model, "observe"):
        found: Backend = model
        return found
    kinds = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    if "nnsight" in kinds:
        require_extra("backends", BACKENDS["nnsight"].package, where="a model in NNsight")
        from runs.backends.nnsight import load_nnsight

        return load_nnsight(model, fused_within)
    if "transformer_lens" in kinds:
        require_extra("backends", BACKENDS["transformer_lens"].package, where="a TransformerBridge")
        from runs.backends.lens import load_bridge

        return load_bridge(model)
    return TorchHooks(wrap(model), fused_within=fused_within)


__all__ = [
    "BACKENDS",
    "AttentionListener",
    "Backend",
    "BackendRow",
    "HiddenListener",
    "backend_of",
    "check_supported",
    "fused_within",
    "open_backend",
]
