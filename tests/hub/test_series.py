"""The tiny series load from the hub, as the published ones do."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import list_repo_refs, snapshot_download
from transformers import AutoConfig

from tests.hub import Hub
from tests.hub.series import (
    OLMO2,
    PYTHIA,
    olmo2_labels,
    olmo2_steps,
    publish_plain,
    publish_series,
    pythia_steps,
)


@pytest.mark.parametrize("name", [PYTHIA, OLMO2])
def test_a_series_has_its_revisions(hub: Hub, tmp_path: Path, name: str) -> None:
    labels = olmo2_labels(2)
    make = pythia_steps(tmp_path, (0, 4)) if name == PYTHIA else olmo2_steps(tmp_path, labels)
    commits = publish_series(hub, name, make)
    refs = {branch.name: branch.target_commit for branch in list_repo_refs(name).branches}
    last = list(make)[-1]
    assert refs == {**commits, "main": commits[last]}
    assert last == ("step4" if name == PYTHIA else labels[-1])
    folder = Path(snapshot_download(name, revision=last))
    kind = "gpt_neox" if name == PYTHIA else "olmo2"
    assert AutoConfig.from_pretrained(folder).model_type == kind
    assert {"model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}


def test_labels_are_the_published_ones() -> None:
    first, *_, last = olmo2_labels()
    assert first.startswith("stage1-step")
    assert last.endswith("B")


def test_plain_files_are_named_by_split(hub: Hub) -> None:
    assert sorted(publish_plain(hub)) == [
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]
