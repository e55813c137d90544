from __future__ import annotations

from pathlib import Path

import pytest

from tests.hub.doors import Cli, Door, open_door
from tests.hub.fixtures import hub
from tests.hub.server import Hub
from tests.runs.conftest import cli


@pytest.fixture
def door(hub: Hub, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Door:
    """A published series at an empty cache; the client is impatient."""
    from huggingface_hub import constants

    from runs.hub import listing

    monkeypatch.setenv("PHASESCOPE_HUB_TRIES", "0")
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    listing._asked.clear()
    return open_door(hub, tmp_path, cli)


__all__ = ["cli", "door", "hub"]
