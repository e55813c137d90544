"""The packages that phasescope needs: one line where one is missing, too old or broken.

The bounds are those of the installed distribution's own metadata, so nothing is written twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import (
    PackageNotFoundError,
    distribution,
    packages_distributions,
    requires,
    version,
)
from types import TracebackType
from typing import TYPE_CHECKING

from runs.errors import InputError, line_of

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PROJECT = "phasescope"
_OURS = frozenset({"attention", "figures", "geometry", "probes", "runs"})


class PackageError(InputError, ImportError):
    """A package that phasescope needs is missing, too old or cannot be imported."""


@cache
def check_packages() -> None:
    """Refuse to start on packages below the bounds that phasescope declares.

    Raises
    ------
    PackageError
        One line that names each of them and what to install.
    """
    wrong = {str(need): found for need in _needs("") if (found := _what_is_wrong(need))}
    if wrong:
        mend = " ".join(f"'{need}'" for need in wrong)
        raise PackageError(f"{'; '.join(wrong.values())}; pip install {mend}")


def require_extra(extra: str, *names: str, where: str) -> None:
    """Refuse what needs an optional package that is missing or below its bound.

    Parameters
    ----------
    extra
        The extra of phasescope that declares them.
    names
        Distributions of that extra which are needed here, as pyproject.toml spells them.
    where
        What needs them: the file, the key and its value.

    Raises
    ------
    PackageError
        One line that names each of them and what to install.
    """
    declared = {_plain(need.name): need for need in _needs(extra)}
    missing = [name for name in names if _installed(name) is None]
    if missing:
        raise PackageError(
            f"{where}: needs {' and '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed; "
            f"pip install '{_PROJECT}[{extra}]'"
        )
    for need in [declared[_plain(name)] for name in names if _plain(name) in declared]:
        if wrong := _what_is_wrong(need):
            raise PackageError(f"{where}: {wrong}; pip install '{need}'")


def broken_package(name: str, error: Exception) -> PackageError:
    """What a package is refused with that fails on sound data too."""
    return PackageError(_what_to_install(name, f"does not work ({line_of(error)})"))


@contextmanager
def named_imports() -> Iterator[None]:
    """Say of an import that fails, whatever it raises, which package it is and what to install."""
    try:
        yield
    except Exception as error:
        if isinstance(error, PackageError) or os.environ.get("PHASESCOPE_DEBUG"):
            raise
        if (module := failed_import(error)) is None:
            raise
        name = packages_distributions().get(module, [module])[0]
        said = f"cannot be imported ({line_of(error)})"
        raise PackageError(_what_to_install(name, said)) from error


def failed_import(error: BaseException) -> str | None:
    """The package of others that could not be imported; None if the error is something else."""
    name = (error.name or "") if isinstance(error, ImportError) else ""
    if top := name.partition(".")[0]:
        return None if top in _OURS else top
    # A package of the wrong version fails in any way while its modules are run.
    frames = _frames(error.__traceback__)
    importing = [top for top, code in frames if code == "<module>" and top not in _OURS]
    if importing:
        return importing[-1]
    raised_by = frames[-1][0] if frames and isinstance(error, ImportError) else ""
    return raised_by if raised_by not in ("", *_OURS) else None


def _frames(traceback: TracebackType | None) -> list[tuple[str, str]]:
    """Top-level package and code of every frame, outermost first; without Python's own."""
    found = []
    while traceback is not None:
        frame = traceback.tb_frame
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("", "__main__"):
            found.append((top, frame.f_code.co_name))
        traceback = traceback.tb_next
    return found


def _what_to_install(name: str, said: str) -> str:
    bounds = {_plain(n.name): f"{n.name}{n.specifier}" for n in _declared()}
    wanted = bounds.get(_plain(name), name)
    installed = _installed(name)
    if installed is None:
        return f"{name} is not installed; pip install '{wanted}'"
    return f"{name} {installed} is installed and {said}; pip install --force-reinstall '{wanted}'"


def _needs(extra: str) -> list[Requirement]:
    """What phasescope itself needs, or what one of its extras adds."""
    found = []
    for need in _declared():
        marker, need.marker = need.marker, None  # without it, it is what to install
        always = marker is None or marker.evaluate({"extra": ""})
        if always != bool(extra) and (marker is None or marker.evaluate({"extra": extra})):
            found.append(need)
    return found


def _declared() -> list[Requirement]:
    """Every requirement in phasescope's metadata; none of a copy that is not installed."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        raise PackageError("packaging is not installed; pip install packaging") from None
    try:
        return [Requirement(line) for line in requires(_PROJECT) or []]
    except PackageNotFoundError:
        return []


def _what_is_wrong(need: Requirement) -> str:
    installed = _installed(need.name)
    if installed is None:
        return f"{need.name} is not installed and {need} is needed"
    # Whoever runs a development version has chosen it.
    if need.specifier.contains(installed, prereleases=True):
        return ""
    return f"{need.name} {installed} is installed and {need.specifier} is needed"


def _installed(name: str) -> str | None:
    try:
        text = distribution(name).read_text("METADATA") or ""
    except PackageNotFoundError:
        return None
    # `version` parses the whole file, descriptions and all, at every start of the command.
    head = text.partition("\nVersion:")[2].partition("\n")[0].strip()
    return head or version(name)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
