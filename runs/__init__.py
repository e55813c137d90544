"""From a list of checkpoints to a finished store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runs.interactive import capture
    from runs.jobs import run
    from runs.measures import measure
    from runs.store import open_store
    from runs.study import open_study

__all__ = ["capture", "measure", "open_store", "open_study", "run"]

_HOMES = {
    "capture": "runs.interactive",
    "measure": "runs.measures",
    "open_store": "runs.store",
    "open_study": "runs.study",
    "run": "runs.jobs",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `phasescope --help` should not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'runs' has no attribute {name!r}")
    from importlib import import_module

    from runs.packages import check_packages, named_imports

    check_packages()
    with named_imports():
        import_module("runs.accessor")
        return getattr(import_module(_HOMES[name]), name)
