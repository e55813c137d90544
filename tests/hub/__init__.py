"""A hub on the loopback for tests: what the real one serves, its faults on request, a record of all."""

from __future__ import annotations

from tests.hub.faults import Fault, Record
from tests.hub.repositories import Blob, Commit, Repository
from tests.hub.server import Hub

__all__ = ["Blob", "Commit", "Fault", "Hub", "Record", "Repository"]
