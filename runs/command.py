"""The command `phasescope`: looks at the packages before any of them is imported."""

from __future__ import annotations

import sys

from runs.packages import PackageError, check_packages, named_imports


def main() -> None:
    """Run the command line, or say in one line which package keeps it from running."""
    try:
        check_packages()
        with named_imports():
            from runs.cli import main as command_line
    except PackageError as error:
        sys.stderr.write(f"phasescope: {error}\n")
        sys.exit(2)
    command_line()
