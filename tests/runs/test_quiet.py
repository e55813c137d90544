"""What dependencies warn of does not reach who types a command, even where Python is asked to tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ALL = """
import json, sys
from runs.command import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["phasescope", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_command_is_quiet(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    recipe = write_recipe(
        steps="steps = [0, 1, 4]", measures='names = ["rankme", "loss", "head_entropy"]'
    )
    store = tmp_path / "tiny.zarr"
    commands = [
        *(["plan", recipe], ["run", recipe], ["run", recipe], ["status", store]),
        *(["verify", recipe], ["measure", store, "rankme", "alpha_req"], ["list"]),
        *(["figures", store, "phases", "profile"], ["report", store]),
    ]
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", ALL, json.dumps(commands, default=str)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert [line for line in said if "Loading weights" not in line] == []
    assert "Warning" not in done.stdout
