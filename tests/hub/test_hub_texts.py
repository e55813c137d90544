"""Texts from a hub: which files, rows and bytes are read; pinned, kept; one line for what is wrong."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runs.errors import InputError
from runs.hub import listing
from runs.hub.parquet import NoParquet, chosen_files, glob
from runs.hub.texts import Sample, TextSource, parquet_files, text_source
from runs.inputs import build_set, load_tokenizer
from runs.models.tokenizer import save_tokenizer, train_tokenizer
from runs.recipe import InputTable
from tests.hub.doors import Door
from tests.hub.series import (
    CONVERTED,
    FINEWEB,
    PLAIN,
    documents,
    parquet,
    publish_converted,
    publish_fineweb,
    publish_plain,
)
from tests.hub.server import Hub
from tests.runs.conftest import speeches

OWN = "somebody/texts"


@pytest.fixture(autouse=True)
def _impatient(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASESCOPE_HUB_TRIES", "0")
    listing._asked.clear()


def source_of(folder: Path, dataset: str = OWN, **options: object) -> TextSource:
    listing._asked.clear()
    given: dict[str, object] = {
        "config": None,
        "split": "train",
        "revision": "main",
        "text": "text",
        "columns": (),
        "seed": None,
    }
    return text_source(dataset, folder, **{**given, **options})  # type: ignore[arg-type]


def taken(folder: Path, count: int, dataset: str = OWN, **options: object) -> list[str]:
    sample = Sample(source_of(folder, dataset, **options), folder)
    found = [document.text for document in islice(sample, count)]
    sample.keep()
    return found


def names_of(folder: Path, dataset: str = OWN, **options: object) -> list[str]:
    return [place.path for place in parquet_files(source_of(folder, dataset, **options))]


def card(configs: object) -> str:
    return f"---\n{json.dumps({'license': 'mit', 'configs': configs})}\n---\n# Texts\n"


FILES = [
    "data/train-00000-of-00002.parquet",
    "data/train-00001-of-00002.parquet",
    "data/test-00000-of-00001.parquet",
    "deep/er/train/a.parquet",
    "deep/er/retrain/a.parquet",
    "en/train.parquet",
    "en/valid.parquet",
    "de/train.parquet",
    "notes.jsonl",
]


@pytest.mark.parametrize(
    ("configs", "config", "split", "found"),
    [
        ([{"data_files": "data/train-*"}], "", "train", FILES[:2]),
        ([{"data_files": ["en/*.parquet", "de/*"]}], "", "train", ["de/train.parquet", *FILES[5:7]]),
        ([{"data_files": {"dev": "en/v*"}}], "", "dev", ["en/valid.parquet"]),
        ([{"data_files": [{"split": "a", "path": ["de/*", "en/t*"]}]}], "", "a", [FILES[7], FILES[5]]),
        ([{"data_files": "deep/**/train/*.parquet"}], "", "train", ["deep/er/train/a.parquet"]),
        ([{"data_files": "**/train.parquet"}], "", "train", ["de/train.parquet", "en/train.parquet"]),
        ([{"data_files": "data/t[r]*-0000[1-9]-*"}], "", "train", FILES[1:2]),
        ([{"data_files": "{en,de}/train.parquet"}], "", "train", ["de/train.parquet", FILES[5]]),
        ([{"data_files": "./en/?rain.parquet"}], "", "train", ["en/train.parquet"]),
        ([{"config_name": "en", "data_dir": "en"}], "en", "validation", ["en/valid.parquet"]),
        ([{"data_dir": "en", "data_files": "train*"}], "", "train", ["en/train.parquet"]),
        ([{"config_name": "de"}, {"config_name": "en"}], "de", "train", ["de/train.parquet"]),
        (
            [{"config_name": "x", "data_files": "no"}, {"config_name": "y", "default": True,
             "data_files": "de/*"}], "", "train", ["de/train.parquet"],
        ),
        ([{"config_name": 2023, "data_files": "de/*"}], "2023", "train", ["de/train.parquet"]),
        ("nonsense", "en", "train", ["en/train.parquet"]),
        ([3, None], "", "test", ["data/test-00000-of-00001.parquet"]),
    ],
)  # fmt: skip
def test_files_by_a_card_in_every_spelling(
    configs: object, config: str, split: str, found: list[str]
) -> None:
    assert chosen_files(OWN, FILES, card(configs), config=config, split=split) == sorted(found)


@pytest.mark.parametrize(
    ("configs", "config", "split", "words"),
    [
        ([{"config_name": "a", "data_files": "x"}], "b", "train", "set `config` to one of a"),
        ([{"config_name": "a"}, {"config_name": "b"}], "", "train", "set `config` to one of a, b"),
        ([{"data_files": {"x": "en/*"}}], "", "train", "set `split` to one of x"),
        ([{"data_files": "none/*"}], "", "train", "no file fits"),
        ([], "", "dev", "set `split`"),
        ([], "fr", "train", "set `config`"),
    ],
)
def test_what_a_card_does_not_have_names_the_key(
    configs: object, config: str, split: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        chosen_files(OWN, FILES, card(configs), config=config, split=split)


def test_other_formats_are_told_from_no_files() -> None:
    for configs in ([{"data_files": "*.jsonl"}], []):
        names = ["notes.jsonl"] if not configs else FILES
        with pytest.raises(NoParquet):
            chosen_files(OWN, names, card(configs), config="", split="train")


@pytest.mark.parametrize("pattern", ["[z-a]*", "a[", "{", "\\", "(", "[!]"])
def test_odd_patterns_match_something_or_nothing(pattern: str) -> None:
    assert glob(pattern).fullmatch("some/name") is None


def test_files_by_card_names_and_conversion(hub: Hub, tmp_path: Path) -> None:
    fine, plain = publish_fineweb(hub), publish_plain(hub)
    converted = publish_converted(hub)
    listed = names_of(tmp_path, FINEWEB, config="sample-10BT")
    assert listed == sorted(n for n in fine if n.startswith("sample/"))
    assert names_of(tmp_path, PLAIN) == sorted(n for n in plain if "train" in n)
    assert taken(tmp_path, 30, PLAIN, split="test") == plain["data/test-00000-of-00001.parquet"]
    assert taken(tmp_path, 30, CONVERTED) == converted["default/train/0000.parquet"]


def test_a_conversion_is_pinned_too(hub: Hub, tmp_path: Path) -> None:
    first = publish_converted(hub)["default/train/0000.parquet"]
    source = source_of(tmp_path, CONVERTED)
    moved = {"default/train/0000.parquet": parquet(documents(20, seed=9))}
    hub.publish(CONVERTED, moved, "refs/convert/parquet", kind="dataset")
    again = source_of(tmp_path, CONVERTED, commit=source.commit)
    assert [d.text for d in Sample(again, tmp_path)] == first


def big(hub: Hub, *, files: int = 2, rows: int = 600, groups: int = 30) -> dict[str, list[str]]:
    """Files of several MB with many row groups, and a column that nobody wants."""
    content, held = {}, {}
    noise = np.random.default_rng(0)
    for number in range(files):
        texts = documents(rows, seed=number, words=500)
        waste = [noise.bytes(5_000) for _ in range(rows)]
        target = io.BytesIO()
        table = pa.table({"text": texts, "waste": waste, "id": list(range(rows))})
        pq.write_table(table, target, row_group_size=rows // groups, compression="none")
        name = f"data/train-{number:05d}.parquet"
        content[name], held[name] = target.getvalue(), texts
    hub.publish(OWN, content, kind="dataset")
    return held


def test_the_first_rows_are_all_that_is_read(hub: Hub, tmp_path: Path) -> None:
    held = big(hub)
    size = hub.repository(OWN, "dataset").at("main").files["data/train-00000.parquet"].size
    assert size > 4_000_000
    assert taken(tmp_path, 20) == held["data/train-00000.parquet"][:20]
    assert 0 < hub.bytes_of(".parquet") < 0.15 * size
    assert hub.bytes_of("train-00001.parquet") == 0


def test_one_great_row_group_is_not_read_whole(hub: Hub, tmp_path: Path) -> None:
    held = big(hub, files=1, rows=5000, groups=1)
    size = hub.repository(OWN, "dataset").at("main").files["data/train-00000.parquet"].size
    assert taken(tmp_path, 20) == held["data/train-00000.parquet"][:20]
    assert 0 < hub.bytes_of(".parquet") < 0.15 * size


def test_a_seeded_sample_of_many_files_opens_few(hub: Hub, tmp_path: Path) -> None:
    content = {f"train/{i:03d}.parquet": parquet(documents(150, seed=i)) for i in range(30)}
    hub.publish(OWN, content, kind="dataset")
    taken(tmp_path, 60, seed=1)
    opened = {record.path for record in hub.downloads(".parquet")}
    assert 1 < len(opened) <= 4


def publish(hub: Hub, content: dict[str, Sequence[str]], groups: int = 3) -> list[str]:
    files = {n: parquet(list(texts), groups=groups) for n, texts in content.items()}
    hub.publish(OWN, files, kind="dataset")
    return [text for texts in content.values() for text in texts]


def test_a_seed_decides_the_sample_and_covers_everything_once(hub: Hub, tmp_path: Path) -> None:
    names = ["train/a.parquet", "train/b.parquet", "train/c.parquet"]
    every = publish(hub, {n: [f"{n} {i}" for i in range(500)] for n in names}, groups=2)
    first = taken(tmp_path / "a", 300, seed=3)
    assert first == taken(tmp_path / "b", 300, seed=3)
    assert first != taken(tmp_path / "c", 300, seed=4)
    assert first != taken(tmp_path / "d", 300)
    for name in names:  # spread over the files
        assert sum(text.startswith(name) for text in first) > 20
    whole = taken(tmp_path / "e", 10_000, seed=3)
    assert whole[:300] == first
    assert sorted(whole) == sorted(every)
    # What is kept is gone on from, and nothing is read for what is there.
    hub.clear()
    assert taken(tmp_path / "a", 300, seed=3) == first
    assert hub.downloads(".parquet") == []
    assert taken(tmp_path / "a", 10_000, seed=3) == whole
    hub.clear()
    assert taken(tmp_path / "a", 10_000, seed=3) == whole
    assert hub.downloads() == []


def test_processes_that_keep_one_sample_do_not_mix_it(hub: Hub, tmp_path: Path) -> None:
    every = publish(hub, {"train.parquet": [f"text {i}" for i in range(300)]})
    source = source_of(tmp_path)
    samples = [Sample(source, tmp_path), Sample(source, tmp_path), Sample(source, tmp_path)]
    for sample, count in zip(samples, (60, 200, 90), strict=True):
        assert [d.text for d in islice(sample, count)] == every[:count]
    for sample in samples:
        sample.keep()
    hub.clear()
    assert taken(tmp_path, 200) == every[:200]
    assert hub.downloads(".parquet") == []
    samples[0].path.write_bytes(b"PAR1 damaged")
    assert taken(tmp_path, 200) == every[:200]
    assert not list(tmp_path.glob("*.draft"))


def test_a_commit_is_a_revision_and_stays_the_same(hub: Hub, tmp_path: Path) -> None:
    every = publish(hub, {"train.parquet": [f"old {i}" for i in range(40)]})
    old = hub.repository(OWN, "dataset").branches["main"]
    publish(hub, {"train.parquet": [f"new {i}" for i in range(40)]})
    assert taken(tmp_path, 40, revision=old) == every
    assert taken(tmp_path, 40)[0] == "new 0"
    assert taken(tmp_path / "x", 40, commit=old) == every
    hub.clear()
    hub.fail("dropped")
    assert taken(tmp_path, 40, revision=old) == every  # a commit needs nobody to name it
    assert taken(tmp_path, 40)[0] == "new 0"


def test_the_same_text_is_the_same_tokens(hub: Hub, tmp_path: Path) -> None:
    texts = documents(40, seed=1)
    publish(hub, {"train.parquet": texts})
    tokenizer_folder = tmp_path / "tokenizer"
    tokenizer_folder.mkdir()
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), tokenizer_folder)
    tokenizer = load_tokenizer(tokenizer_folder)
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    shared = {"mode": "document", "length": 24, "limit": 30}
    away = build_set(
        "x",
        InputTable.model_validate({"dataset": OWN, **shared}),
        tokenizer,
        documents=Sample(source_of(tmp_path), tmp_path),
    )
    there = build_set(
        "x", InputTable.model_validate({"path": tmp_path / "t.jsonl", **shared}), tokenizer
    )
    assert away.digest == there.digest


WRONG = [
    ("dataset", "somebody/none", "no such repository", "inputs.fineweb.dataset"),
    ("config", "none", "set `config` to one of default, sample-10BT", "config"),
    ("split", "none", "set `split` to one of train", "split"),
    ("revision", "none", "no such revision", "revision"),
    ("column", "none", "has no column `none`; set `column`", "column"),
    ("column", "token_count", "`token_count` is not a string", "column"),
    ("group", "none", "has no column `none`", "group"),
]


@pytest.mark.parametrize(("key", "value", "words", "named"), WRONG)
def test_what_is_wrong_is_one_line_that_names_the_key(
    door: Door, key: str, value: str, words: str, named: str
) -> None:
    told = {"dataset": FINEWEB, "config": "sample-10BT", key: value}
    recipe = door.recipe(inputs="\n".join(f'{k} = "{v}"' for k, v in told.items()))
    code, _, err = door.cli("run", recipe)
    assert (code, err.count("\n")) == (2, 1), err
    for part in (str(recipe), "inputs.fineweb", words, named):
        assert part in err, (part, err)
    assert door.statuses() == []


def test_faults_of_a_data_set_are_one_line(door: Door) -> None:
    whole = parquet(documents(300, seed=1), groups=2, compression="zstd")
    half = bytearray(whole)
    half[100:200] = bytes(100)  # a page; the footer is as it was
    nulls = io.BytesIO()
    pq.write_table(pa.table({"text": ["a b c", None] * 10}), nulls)
    for name, content in {
        "damaged": bytes(half),
        "cut": whole[:-4],
        "none": b"PAR1 no parquet PAR1",
        "empty": b"",
        "nulls": nulls.getvalue(),
        "lines": None,
        "gated": whole,
    }.items():
        dataset = f"somebody/{name}"
        files = {"a.jsonl": "{}"} if content is None else {"train.parquet": content}
        door.hub.publish(dataset, files, kind="dataset")
        door.hub.repository(dataset, "dataset").gated = name == "gated"
        listing._asked.clear()
        code, _, err = door.cli("run", door.recipe(inputs=f'dataset = "{dataset}"'))
        assert (code, err.count("\n")) == (2, 1), err
        key = "inputs.fineweb.dataset" if name == "gated" else "inputs.fineweb"
        assert f"key `{key}`: {dataset}" in err, err
        mends = {"nulls": "null", "lines": "give `path`", "gated": "HF_TOKEN"}
        assert mends.get(name, "is no Parquet file that can be read") in err, (name, err)
    assert door.statuses() == []


def test_labels_groups_and_a_column_come_along(door: Door) -> None:
    text = f'dataset = "{FINEWEB}"\nconfig = "sample-10BT"\ncolumn = "text"\nlabels = ["dump"]'
    recipe = door.recipe(inputs=text + '\ngroup = "id"')
    code, out, err = door.cli("fetch", recipe)
    assert (code, err) == (0, "")
    assert "40 documents" in out
    # The sample serves a machine without a network, whatever became of the data set.
    door.hub.repository(FINEWEB, "dataset").move("main", {"README.md": "nothing is left"})
    door.hub.clear()
    door.hub.fail("dropped")
    listing._asked.clear()
    code, out, err = door.cli("run", recipe)
    assert (code, err) == (0, ""), err
    assert door.hub.downloads() == []
    shutil.rmtree(door.cache)
    listing._asked.clear()
    assert door.cli("run", recipe)[0] == 0


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('path = "x.jsonl"\nlimit = 8\nmode = "document"', "`path` does not go with `dataset`"),
        ('mode = "document"', "`limit` is required with `dataset`"),
        ('limit = 8\nmode = "words"', 'goes with mode = "document" or "packed"'),
        ('limit = 8\nmode = "document"\ncolumn = "a"\ntext = "b"', "mean the same"),
        ('limit = 8\nmode = "document"\ncolumm = "a"', "did you mean `column`?"),
        ('limit = 8\nmode = "document"\ncolumn = 3', "inputs.x.column"),
        ('limit = 8\nmode = "document"\nsplit = ""', "inputs.x.split"),
    ],
)
def test_keys_that_do_not_go_together(door: Door, lines: str, words: str) -> None:
    path = door.folder / "keys.toml"
    head = 'name = "x"\nstore = "x.zarr"\n[series]\npath = "x"\n[inputs.x]\nlength = 8\n'
    path.write_text(f'{head}dataset = "{OWN}"\n{lines}\n')
    code, _, err = door.cli("plan", path)
    assert (code, err.count("\n")) == (2, 1)
    assert words in err
    for key in ("config", "split", "revision", "column"):
        path.write_text(f'{head}mode = "document"\npath = "x.txt"\n{key} = "a"\n')
        code, _, err = door.cli("plan", path)
        assert code == 2
        assert f"`{key}` goes with `dataset` only" in err
