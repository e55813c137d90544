"""Tiny series and datasets on a hub, shaped as the published ones are."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import Olmo2Config, Olmo2ForCausalLM

from runs.families import olmo2
from runs.models.tokenizer import save_tokenizer, train_tokenizer
from tests.hub.repositories import Content
from tests.hub.server import Hub
from tests.runs.conftest import save_step, speeches
from tests.runs.hub_cache import shard

PYTHIA = "EleutherAI/pythia-14m"
OLMO2 = "allenai/OLMo-2-0425-1B"
FINEWEB = "HuggingFaceFW/fineweb"
PLAIN = "somebody/plain-text"
CONVERTED = "somebody/converted-text"


def publish_series(
    hub: Hub, name: str, folders: Mapping[str, Path], *, main: str | None = None
) -> dict[str, str]:
    """A revision for each folder, and `main`, which is the last one's unless named; their commits."""
    commits = {revision: hub.publish(name, folder) for revision, folder in folders.items()}
    repository = hub.repository(name)
    repository.branches |= commits
    repository.branches["main"] = commits[main or list(folders)[-1]]
    return commits


def pythia_steps(
    root: Path, steps: Iterable[int] = (0, 1, 2, 4), *, sharded: bool = False
) -> dict[str, Path]:
    """Folders of a tiny Pythia's steps by revision, each with the tokenizer, as the real ones have it."""
    folders = {}
    for step in steps:
        save_step(root, step)
        folder = root / f"step{step}"
        if sharded:
            shard(folder)
        folders[folder.name] = folder
    _with_tokenizer(root, folders.values())
    return folders


def olmo2_labels(count: int = 4) -> list[str]:
    """Revisions of stage 1, spread over the published ones, in order; the last is the last."""
    series = olmo2("1b", early=False)
    every = [c.revision for c in series.checkpoints if c.branch == "stage1"]
    return [every[round(i * (len(every) - 1) / (count - 1))] for i in range(count)]


def olmo2_steps(root: Path, labels: Sequence[str] | None = None) -> dict[str, Path]:
    """Folders of a tiny OLMo-2's checkpoints by revision."""
    config = Olmo2Config(
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    folders = {}
    for place, label in enumerate(olmo2_labels() if labels is None else labels):
        torch.manual_seed(0)
        model = Olmo2ForCausalLM(config)
        torch.manual_seed(place + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02 * place)
        folders[label] = root / label
        model.save_pretrained(folders[label])
    _with_tokenizer(root, folders.values())
    return folders


def parquet(
    documents: Sequence[str], *, groups: int = 4, first: int = 0, compression: str = "none"
) -> bytes:
    """A file with FineWeb's main columns in several row groups."""
    numbers = range(first, first + len(documents))
    table = pa.table(
        {
            "text": list(documents),
            "id": [f"<urn:uuid:{n:08d}>" for n in numbers],
            "dump": ["CC-MAIN-2025-01"] * len(documents),
            "language_score": [0.9] * len(documents),
            "token_count": [len(text.split()) for text in documents],
        }
    )
    target = io.BytesIO()
    rows = -(-len(documents) // groups)
    pq.write_table(table, target, row_group_size=rows, compression=compression)
    return target.getvalue()


def documents(count: int, *, seed: int = 0, words: int = 40) -> list[str]:
    """Speeches of the tests' lexicon, another draw for another seed."""
    generator = np.random.default_rng(seed)
    lexicon = sorted(set(" ".join(speeches(4)).split()))
    return [" ".join(generator.choice(lexicon, words)) for _ in range(count)]


def publish_fineweb(
    hub: Hub, name: str = FINEWEB, *, files: int = 3, rows: int = 40, groups: int = 4
) -> dict[str, list[str]]:
    """Configurations in the card's front matter, globs to folders; documents by file."""
    card = (
        "---\nlicense: odc-by\nconfigs:\n"
        "- config_name: default\n  data_files:\n  - split: train\n    path: data/*/*\n"
        "- config_name: sample-10BT\n  data_files:\n  - split: train\n    path: sample/10BT/*\n"
        "---\n# FineWeb\n"
    )
    content: dict[str, Content] = {"README.md": card, ".gitattributes": "*.parquet filter=lfs\n"}
    held = {}
    places = [f"sample/10BT/{i:03d}_00000.parquet" for i in range(files)]
    places.append("data/CC-MAIN-2025-01/000_00000.parquet")
    for seed, place in enumerate(places):
        held[place] = documents(rows, seed=seed)
        content[place] = parquet(held[place], groups=groups, first=seed * rows)
    hub.publish(name, content, kind="dataset")
    return held


def publish_plain(hub: Hub, name: str = PLAIN, *, rows: int = 20) -> dict[str, list[str]]:
    """No configurations: files by their names alone; documents by file."""
    held = {
        f"data/{split}-{i:05d}-of-{count:05d}.parquet": documents(rows, seed=100 + i + count)
        for split, count in (("train", 2), ("test", 1))
        for i in range(count)
    }
    content: dict[str, Content] = {n: parquet(d, groups=2) for n, d in held.items()}
    hub.publish(name, {"README.md": "# Plain\n", **content}, kind="dataset")
    return held


def publish_converted(hub: Hub, name: str = CONVERTED, *, rows: int = 20) -> dict[str, list[str]]:
    """JSON lines on `main`; Parquet lies only where the hub's converter puts it."""
    held = {"default/train/0000.parquet": documents(rows, seed=200)}
    lines = "".join(f'{{"text": "{text}"}}\n' for text in held["default/train/0000.parquet"])
    hub.publish(name, {"README.md": "# Lines\n", "train.jsonl": lines}, kind="dataset")
    content: dict[str, Content] = {n: parquet(d, groups=2) for n, d in held.items()}
    hub.publish(name, content, "refs/convert/parquet", kind="dataset")
    return held


def _with_tokenizer(root: Path, folders: Iterable[Path]) -> None:
    made = root / "tokenizer"
    made.mkdir(parents=True)
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), made)
    for folder in folders:
        shutil.copytree(made, folder, dirs_exist_ok=True)
    shutil.rmtree(made)
