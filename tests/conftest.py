"""What all tests share: no network, one thread, and what hypothesis draws.

`fast`, the default, draws the same examples on every machine and day. `full` draws new ones:
`pytest --hypothesis-profile full` or `HYPOTHESIS_PROFILE=full`; it names its seed at the top and prints
the line that repeats a failure, which then becomes an `@example` beside the mend.
"""

from __future__ import annotations

import os
import secrets

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

# Two threads on a busy core wait for each other at every barrier; `tests.processors` asks for more.
torch.set_num_threads(int(os.environ.get("PHASESCOPE_TEST_THREADS", "1")))

# A busy machine draws slowly and has no deadline.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", derandomize=True, database=None, **_PATIENT)
settings.register_profile("full", derandomize=False, database=None, print_blob=True, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def _profile(config: pytest.Config) -> str:
    given = config.getoption("hypothesis_profile", None)
    return str(given or os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draw a seed for `full`, before hypothesis reads its options, so that it can be named."""
    if _profile(config) == "full" and config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(secrets.randbelow(2**32))


def _named(config: pytest.Config) -> str:
    name, seed = _profile(config), config.getoption("hypothesis_seed", None)
    again = "" if seed is None else f"; again: --hypothesis-profile {name} --hypothesis-seed {seed}"
    return f"hypothesis: draws of profile {name}{again}"


def pytest_report_header(config: pytest.Config) -> str:
    return _named(config)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say it again below, where `-q` shows it too."""
    if _profile(config) == "full":
        terminalreporter.write_line(_named(config))
