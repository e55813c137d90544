"""Capture backends, one a file, and the table of what each can give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from runs.backends.base import AttentionListener, Backend, HiddenListener
from runs.backends.torch_hooks import TorchHooks
from runs.errors import InputError
from runs.loaded import LoadedModel, wrap


@dataclass(frozen=True)
class BackendRow:
    """One backend of the table.

    Attributes
    ----------
    name : str
        What `capture.backend` takes.
    open
        From a loaded model to a backend; may change the model in place.
    products : mapping of str to str
        Products it can give, and how.
    visits : bool
        Whether visits, which use the registered attention function, can follow on the same model.
    package : str
        What has to be installed; "" for nothing more.
    changes_model : bool
        Whether `open` changes the loaded model in place.
    """

    name: str
    open: Callable[[LoadedModel], Backend]
    products: Mapping[str, str]
    visits: bool
    package: str = ""
    changes_model: bool = False


def _nnsight(loaded: LoadedModel) -> Backend:
    from runs.backends.nnsight import NNsightTraces

    return NNsightTraces(loaded)


def _lens(loaded: LoadedModel) -> Backend:
    from runs.backends.lens import LensBridge

    return LensBridge(loaded)


_STATES = {"hidden": "yes", "moments": "yes", "tokens": "yes"}

BACKENDS: dict[str, BackendRow] = {
    row.name: row
    for row in (
        BackendRow("torch", TorchHooks, {**_STATES, "attention": "streamed"}, visits=True),
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
            package="transformer_lens",
            changes_model=True,
        ),
    )
}


def check_supported(
    name: str, products: tuple[str, ...], visits: tuple[str, ...], *, where: str
) -> None:
    """Refuse what a backend cannot give, before anything is loaded.

    Raises
    ------
    InputError
        Naming the key, what the backend has, and the mend.
    """
    row = BACKENDS[name]
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
    if row.package and find_spec(row.package) is None:
        raise InputError(
            f"{where}: key `capture.backend`: `{name}` needs a package that is not installed; "
            "pip install 'phasescope[backends]'"
        )


def backend_of(model: Any) -> Backend:
    """A backend around what a user has in memory.

    Parameters
    ----------
    model
        A Hugging Face causal language model, an `NNsight` around one, a `TransformerBridge`, or a
        backend.

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
        from runs.backends.nnsight import load_nnsight

        return load_nnsight(model)
    if "transformer_lens" in kinds:
        from runs.backends.lens import load_bridge

        return load_bridge(model)
    return TorchHooks(wrap(model))


__all__ = [
    "BACKENDS",
    "AttentionListener",
    "Backend",
    "BackendRow",
    "HiddenListener",
    "backend_of",
    "check_supported",
]
