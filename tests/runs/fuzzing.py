"""What the tests of damaged input share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

Cli = Callable[..., tuple[int, str, str]]


def profile(examples: int) -> settings:
    """So many examples; which ones, the profile says (tests/conftest.py)."""
    return settings(
        max_examples=examples,
        # Damage is small already, and a slow property is long to shrink.
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def one_clear_line(line: str, folder: Path) -> None:
    """One printable line that names a file of the folder and is no fault of our own."""
    assert line.isprintable(), line
    assert str(folder) in line, line
    assert "fault of phasescope's own" not in line
    assert "Traceback" not in line
