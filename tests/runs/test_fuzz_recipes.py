"""Mutated recipes: whatever a recipe holds, the answer is a plan or one line that names the file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.errors import PhasescopeError
from runs.planning import show_recipe
from runs.recipe import _EVERY_KIND, _ON_A_HUB, _SERIES_KEYS, load_recipe
from runs.terminal import open_console
from tests.runs.conftest import recipe_text
from tests.runs.fuzzing import Cli, one_clear_line, profile
from tests.runs.hub_cache import RATE, REPOSITORY, make_cache

# What stands in `[series]` instead of a folder.
ON_A_HUB = [
    f"kind = 'hub'\nrepository = '{REPOSITORY}'\ncache = 'hub'\ntokens_per_step = {RATE}",
    "kind = 'pythia'\nsize = '70m'\ncache = 'hub'",
    "kind = 'olmo2'\nsize = '1b'\ncache = 'hub'\nlog_spaced = 8",
]

# As TOML: what stands on the right of a key.
ODD = st.one_of(
    st.sampled_from(
        [
            *("0", "-1", "1", "true", "nan", "-inf", "inf", "1e400", "0.5", "24.0", "7e-324"),
            *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "2147483648"),
            *("1" * 5000, "0x" + "f" * 5000, "1979-05-27", "07:32:00", "'24'", "''", "'.'", "'..'"),
            *('"\\u0000"', '"a\\u0000b"', '"a\\nb"', '"\\u001b[31m"', '"\\U0001F600"', "'[/bold]'"),
            *("'~'", "'~nobody/x'", "'/dev/null'", "'/dev/zero'", "'/proc/self/mem'", "'/'"),
            *("'none/none'", "'speeches.jsonl'", "'speeches.jsonl/x'", "'tiny.txt'", "'pipe.txt'"),
            *("'folder.jsonl'", "'broken.parquet'", "'[/x].zarr'", "'broken'", "'os.path'", "'.a'"),
            *(
                "'packed'",
                "'document'",
                "'fused'",
                "'float16'",
                "'gguf'",
                "'cuda:99'",
                "'head_ablation'",
            ),
            *(
                "[]",
                "[[]]",
                "[0]",
                "[0, 0]",
                "[1, 'a']",
                "['hidden']",
                "['hidden', 'hidden']",
                "['']",
            ),
            *("['party', 'party']", "['text']", "['speaker']", "{}", "{a = 1}", "[{a = 1}]"),
            *("{a = {b = {c = []}}}", "[" * 40 + "]" * 40, "[" * 4000 + "]" * 4000),
            "'" + "x" * 300 + "'",
            "'" + "x/" * 3000 + "'",
            "'" + "y" * 100_000 + "'",
        ]
    ),
    st.text(max_size=12).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.integers().map(str),
    st.floats().map(str),
)
# Keys that the valid recipe leaves out, with values that are right by kind and wrong by content.
KEYS = {
    "[series]": {
        "kind": [
            "'gguf'",
            "'local'",
            "'pythia'",
            "'olmo'",
            "'olmo2'",
            "'olmo3'",
            "'hub'",
            "'stages'",
        ],
        "stages": [
            f"{{base = '{REPOSITORY}', sft = '{REPOSITORY}@step1'}}",
            "{}",
            "{base = 'x'}",
            "{'a/b' = 'a/b'}",
            "['a/b']",
            "{base = 'somebody/none@step1'}",
        ],
        "package": ["'os'", "'os.path'", "''", "'.a'", "'__main__'", "'none'", '"a\\u0000"'],
        "tokenizer": ["'broken'", "'none'", "'~nobody'", "'speeches.jsonl'", "'broken/step1'"],
        "branches": ["[]", "['main']", "['none']", "['']", "['main', 'main']"],
        "steps": ["[]", "[3]", "[-1]", "[1, 1]", "[true]", "[1.0]", "[16]"],
        "step_range": ["[0, 4]", "[4, 0]", "[5, 7]", "[0]", "[0, 1, 2]", "[0.0, 1]", "'all'"],
        "log_spaced": ["2", "1", "1000", "true", "'3'", "9223372036854775807"],
        "accept": ["['main/step1']", "['none']", "'main/step1'", "[1]", "['*']"],
        "size": ["'70m'", "'70M'", "'1b'", "''", "70", "'7b'"],
        "deduped": ["true", "1", "'no'"],
        "seed": ["1", "9", "10", "0", "-1", "1234"],
        "data_seed": ["1", "3"],
        "weight_seed": ["2", "true"],
        "early": ["false", "0"],
        "repository": [f"'{REPOSITORY}'", "'x'", "'a/b/c'", "'../..'", "'somebody/none'", "'./.'"],
        "pattern": ["'step(?P<step>\\d+)'", "'(?P<step>[a-z]+)'", "'('", "''", "'(?P<step>x)?'"],
        "cache": ["'hub'", "'none'", "'speeches.jsonl'", "'.'", "'broken'", "'~nobody'"],
        "prefetch": ["0", "5", "-1", "'all'"],
        "keep": ["'none'", "'all'", "'some'", "true"],
        "disk_budget": ["0.001", "0", "-1", "nan", "inf", "1e308", "'1 GB'"],
    },
    "[inputs.speeches]": {
        "group": ["'speaker'", "'party'", "'none'", "''"],
        "text": ["'text'", "'party'", "'speaker'", "''", "'none'"],
        "add_bos": ["true", "'yes'", "1"],
        "mode": ["'repeated'", "'packed'", "'words'", "'scenes'"],
        "dataset": ["'somebody/texts'", "'texts'", "'a/b/c'", "'../..'", "''", "1"],
        "config": ["'default'", "''", "1", "'a/b'"],
        "split": ["'test'", "''", "['train']"],
        "revision": ["'main'", "''", "'refs/pr/1'", "'" + "0" * 40 + "'", "'" + "r" * 300 + "'"],
        "column": ["'text'", "'none'", "''", "1"],
        "source": ["'text'", "'brown'", "'none'"],
        "tagger": ["'denckring'", "'spacy'", "'none'"],
        "context": ["2", "9", "1", "64", "9223372036854775807"],
        "classes": ["['NOUN', 'VERB']", "['NOUN']", "['none', 'VERB']", "[]", "'NOUN'"],
        "per_class": ["2", "1", "1000000000", "9223372036854775807", "true"],
        "style": ["'tiny'", "'paper'", "'none'"],
        "subset": ["'colour'", "['shape', 'position']", "['shape', 'shape']", "[]"],
        "groups": ["8", "7", "1000000000", "9223372036854775807", "'8'"],
        "visual_tiers": ["[0, 5]", "[99]", "[]", "[0, 0]", "[9223372036854775807]"],
        "text_tiers": ["[0]", "[10, 16]", "[99]", "[-1]"],
        "kinds": ["['conflict']", "['none']", "[]", "['agreement', 'agreement']"],
        "period": ["8", "2", "9223372036854775807", "true"],
        "repeats": ["2", "1", "9223372036854775807"],
        "id_range": ["[3, 90]", "[90, 3]", "[0, 9223372036854775807]", "[0]"],
    },
    "[capture]": {
        "products": ["[]", "['hidden']", "['tokens', 'tokens']", "['none']", "'hidden'"],
        "visits": [
            "['lm_eval']",
            "['eigen_ablation']",
            "['head_importance']",
            "['ov_copying']",
            "['repeated_heads']",
            "['induction_ablation']",
            "['head_ablation']",
            "['answers']",
            "['modality_patching', 'modality_steering']",
            "['none']",
            "['']",
            "['a/b']",
            "['head_ablation', 'x']",
        ],
        "dtype": ["'float16'", "'bfloat16'", "'int8'"],
        "backend": ["'nnsight'", "'transformer_lens'", "'none'"],
        "device": ["'cuda'", "'cuda:99'", "'mps'", "'tpu'", '"cpu\\n"'],
        "device_map": ["'auto'", "'disk'"],
        "micro_batch": ["1", "0", "9223372036854775807"],
        "hidden": ["{extra_positions = 9223372036854775807}", "{other_points = 1}", "{dtype = 1}"],
        "moments": ["{pools = []}", "{pools = ['all', 'all']}", "{pools = ['none']}"],
        "attention": ["{kernel = 'fused'}", "{tolerance = nan}", "{tolerance = inf}"],
        "head_ablation": ["{samples = 0}", "{samples = 9223372036854775807}"],
        "head_importance": ["{samples = 1}", "{samples = 9223372036854775807}"],
        "induction_ablation": ["{heads = 1000}", "{draws = 0}", "{seed = -1}"],
        "answers": ["{command = ''}", "{capitalised = 1}", "{command = 1}"],
        "modality_patching": ["{pairs = 1}", "{pairs = 9223372036854775807}", "{seed = -1}"],
        "modality_steering": [
            "{strengths = [1.0]}",
            "{strengths = [0.0, nan]}",
            "{layers = [9223372036854775807]}",
            "{layers = []}",
            "{pool = 1}",
        ],
        "lm_eval": ["{tasks = ['x'], include_path = 'hub'}", "{metrics = []}", "{limit = 0}"],
        "eigen_ablation": [
            "{directions = [9223372036854775807]}",
            "{directions = []}",
            "{tasks = true}",
        ],
    },
}
LIVE = [
    (table, key, value)
    for table, keys in KEYS.items()
    for key, values in keys.items()
    for value in values
]
_WORDS = "[inputs.words]\nmode = 'words'\nshuffle_seed = 0\nsource = 'text'\n"
_SCENES = "[inputs.scenes]\nmode = 'scenes'\nshuffle_seed = 0\n"
_REPEATED = "[inputs.again]\nmode = 'repeated'\nshuffle_seed = 0\nrepeats = 2\n"
_HUB = "[inputs.away]\nlength = 8\nmode = 'document'\ndataset = 'somebody/texts'\n"
LINES = [
    _HUB + "limit = 8",
    _HUB + "limit = 8\nshuffle_seed = 1\nrevision = '../..'\ncolumn = 'body'\nlabels = ['id']",
    _HUB + "limit = 8\npath = 'speeches.jsonl'",
    _HUB + "revision = 'main'",
    _REPEATED + "limit = 8\nperiod = 4\nvisits = ['repeated_heads', 'induction_ablation']",
    _REPEATED + "limit = 8\nperiod = 100000000000",
    _REPEATED + "limit = 9223372036854775807\nperiod = 4",
    _REPEATED + "period = 4",
    _WORDS + "path = 'speeches.jsonl'\nper_class = 4",
    _WORDS + "path = 'speeches.jsonl'\nper_class = 4\ntagger = 'spacy'",
    _WORDS + "path = 'tiny.txt'\nper_class = 1000000000",
    _WORDS + "per_class = 4",
    "[inputs.words]\nmode = 'words'\nshuffle_seed = 0\nper_class = 4\npath = 'none'",
    _SCENES + "style = 'tiny'\ngroups = 8",
    _SCENES + "groups = 9223372036854775807",
    _SCENES + "groups = 8\nsubset = ['shape']\nvisual_tiers = [99]",
    "[inputs.scenes]\nmode = 'scenes'\npath = 'broken.parquet'",
    *("[nonsense]", "[[series]]", "[series.path]", "[inputs.x]", "[[inputs.speeches]]", "[inputs]"),
    *(
        "[inputs.speeches.labels]",
        "[capture.hidden]",
        "[capture.hidden]\npoints = 3",
        "[",
        "]",
        "=",
    ),
    *(
        "[capture.moments]\npools = []",
        "[capture.attention]\ntolerance = inf",
        "x.y.z = 1",
        '"" = 1',
    ),
    *('"a\\nb" = 1', '"\\u0000" = 1', "source = 'x'", "text = 'x'", "[inputs.'a/b']", "'''", '"""'),
    *(
        "[phases]\nseed = -1",
        "[phases]\nalpha = nan",
        "[inputs.'..']\npath = 'x'",
        "\x00",
        "\x07",
        "\r",
    ),
    *("seed = 1", "[capture.head_ablation]\nsamples = 0", "[inputs." + "n" * 300 + "]"),
    *(".".join("a" * 5000) + " = 1", "[" + ".".join("b" * 5000) + "]", "group = 'speaker'"),
]


Tables = dict[str, dict[str, str]]


def tables_of(text: str) -> Tables:
    """A flat recipe's tables by header, of values as TOML spells them."""
    found: Tables = {"": {}}
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            found[line] = {}
        else:
            key, _, value = line.partition(" = ")
            found[list(found)[-1]][key] = value
    return found


def text_of(tables: Tables) -> str:
    lines = [[name, *(f"{k} = {v}" for k, v in keys.items())] for name, keys in tables.items()]
    return "\n".join(line for table in lines for line in table if line)


def change_key(data: st.DataObject, tables: Tables) -> None:
    """Another value, name or place of a key, or none."""
    how = data.draw(st.sampled_from(["live"] * 14 + ["odd"] * 3 + ["drop", "rename", "move"]))
    if how == "live":  # right by kind, mostly for this kind of series, and maybe wrong by content
        kind = tables["[series]"].get("kind", "'local'").strip("'\"")
        apt = series_keys(kind)
        live = [(t, k, v) for t, k, v in LIVE if t in tables and (t != "[series]" or k in apt)]
        everywhere = data.draw(st.integers(0, 7)) == 7
        table, key, value = data.draw(st.sampled_from(LIVE if everywhere else live))
        tables.setdefault(table, {})[key] = value
        return
    table, key = data.draw(st.sampled_from([(t, k) for t, keys in tables.items() for k in keys]))
    value = tables[table].pop(key)
    if how == "odd":
        tables[table][key] = data.draw(ODD)
    elif how == "rename":
        tables[table][
            data.draw(st.one_of(st.text(max_size=9).map(json.dumps), st.just(key[1:])))
        ] = value
    elif how == "move":
        tables[data.draw(st.sampled_from(list(tables)))][key] = value


def series_keys(kind: str) -> set[str]:
    required, more = _SERIES_KEYS.get(kind, ((), ()))
    hub = () if kind in ("local", "gguf") else _ON_A_HUB
    return {*_EVERY_KIND, *required, *more, *hub} - {"kind"}


def change_text(data: st.DataObject, text: str) -> bytes:
    """A line too many, a line twice, or other bytes."""
    how = data.draw(st.sampled_from(["line", "twice", "bytes"]))
    lines = text.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    if how != "bytes":
        lines.insert(at, lines[at] if how == "twice" else data.draw(st.sampled_from(LINES)))
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    content = text.encode("utf-8", "surrogatepass")
    place = data.draw(st.integers(0, len(content)))
    noise = data.draw(st.binary(min_size=1, max_size=4))
    return content[:place] + noise + content[place + data.draw(st.integers(0, 9)) :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, series_folder: Path) -> Path:
    """A folder with a valid recipe, its text, and things a path may wrongly name."""
    folder = tmp_path_factory.mktemp("fuzz")
    rows = [
        {"text": "the union of states has a great trade " * (1 + i % 4), "party": "AB"[i % 2]}
        for i in range(40)
    ]
    (folder / "speeches.jsonl").write_text(
        "\n".join(json.dumps(row | {"speaker": i // 3}) for i, row in enumerate(rows))
    )
    (folder / "folder.jsonl").mkdir()
    (folder / "broken.parquet").write_bytes(b"PAR1 not parquet PAR1")
    os.mkfifo(folder / "pipe.txt")
    make_cache(folder / "hub")
    broken = shutil.copytree(series_folder / "step1", folder / "broken" / "step1")
    (broken / "config.json").write_text('{"model_type": "gpt_neox"')
    return folder


def answers(folder: Path, series: Path, data: st.DataObject) -> Path:
    """Write a mutated recipe and check that it gives a plan or one line; returns it."""
    text = recipe_text(series)
    local = f"path = {json.dumps(str(series))}\ntokens_per_step = 256"
    assert local in text
    text = text.replace(
        local, data.draw(st.sampled_from([local, local, *ON_A_HUB]), label="series")
    )
    tables = tables_of(text)
    for _ in range(data.draw(st.sampled_from([1, 1, 2, 3]), label="changes")):
        change_key(data, tables)
    text = text_of(tables)
    spoilt = data.draw(st.integers(0, 9)) == 0
    content = change_text(data, text) if spoilt else text.encode("utf-8", "surrogatepass")
    path = folder / "recipe.toml"
    path.write_bytes(content)
    try:
        show_recipe(load_recipe(path), open_console())
    except PhasescopeError as error:
        one_clear_line(str(error), folder)
    return path


def check(folder: Path, series: Path, cli: Cli, examples: int) -> None:
    """The property on so many examples; one in eight goes through the command line too."""

    @profile(examples)
    @given(st.data(), st.integers(0, 7))
    def hold(data: st.DataObject, turn: int) -> None:
        path = answers(folder, series, data)
        if turn == 0:
            code, _, err = cli("plan", path)
            assert code in (0, 2), err
            if code == 2:
                one_clear_line(err.removesuffix("\n").removeprefix("phasescope: "), folder)

    hold()


def test_mutated_recipes_give_a_plan_or_one_line(
    folder: Path, series_folder: Path, cli: Cli
) -> None:
    check(folder, series_folder, cli, 60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_mutated_recipes_give_a_plan_or_one_line(
    folder: Path, series_folder: Path, cli: Cli
) -> None:
    check(folder, series_folder, cli, 2000)
