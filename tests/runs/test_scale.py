"""The simulation of many workers, made small: its own assertions look at every cell."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_workers_killed_at_random_finish_every_checkpoint_once() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--checkpoints", "60", "--workers", "8"]
    command += ["--hosts", "2", "--kills", "6", "--every", "0.2", "--stale", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "checkpoints             60: " in done.stdout
    assert "workers, hosts, kills   8, 2, 6" in done.stdout
