"""The terminal: what is printed there is text, whatever names and paths hold."""

from __future__ import annotations

import io
import sys

from rich.console import Console


def open_console() -> Console:
    """A console that takes square brackets and colons in names for what they are."""
    return Console(highlight=False, markup=False, emoji=False)


def forgive_encoding() -> None:
    """Print what the terminal's encoding lacks, or a name that is no text, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
