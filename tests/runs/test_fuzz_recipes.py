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
from runs.plan import make_plan
from runs.recipe import load_recipe
from runs.screens import show_plan
from runs.terminal import open_console
from tests.runs.conftest import recipe_text
from tests.runs.fuzzing import Cli, one_clear_line, profile

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
        "kind": ["'gguf'", "'local'"],
        "package": ["'os'", "'os.path'", "''", "'.a'", "'__main__'", "'none'", '"a\\u0000"'],
        "tokenizer": ["'broken'", "'none'", "'~nobody'", "'speeches.jsonl'", "'broken/step1'"],
        "branches": ["[]", "['main']", "['none']", "['']", "['main', 'main']"],
        "steps": ["[]", "[3]", "[-1]", "[1, 1]", "[true]", "[1.0]", "[16]"],
    },
    "[inputs.speeches]": {
        "group": ["'speaker'", "'party'", "'none'", "''"],
        "text": ["'text'", "'party'", "'speaker'", "''", "'none'"],
        "add_bos": ["true", "'yes'", "1"],
    },
    "[capture]": {
        "products": ["[]", "['hidden']", "['tokens', 'tokens']", "['none']", "'hidden'"],
        "visits": ["['head_ablation']", "['none']", "['']", "['a/b']", "['head_ablation', 'x']"],
        "dtype": ["'float16'", "'bfloat16'", "'int8'"],
        "backend": ["'nnsight'", "'transformer_lens'", "'none'"],
        "device": ["'cuda'", "'cuda:99'", "'mps'", "'tpu'", '"cpu\\n"'],
        "device_map": ["'auto'", "'disk'"],
        "micro_batch": ["1", "0", "9223372036854775807"],
        "hidden": ["{extra_positions = 9223372036854775807}", "{other_points = 1}", "{dtype = 1}"],
        "moments": ["{pools = []}", "{pools = ['all', 'all']}", "{pools = ['none']}"],
        "attention": ["{kernel = 'fused'}", "{tolerance = nan}", "{tolerance = inf}"],
        "head_ablation": ["{samples = 0}", "{samples = 9223372036854775807}"],
    },
}
INSERTIONS = [
    (table, f"{key} = {value}")
    for table, keys in KEYS.items()
    for key, values in keys.items()
    for value in values
]
LINES = [
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


def mutate(data: st.DataObject, text: str) -> bytes:
    """One change of a recipe's text: a line, a key, a value, or the bytes themselves."""
    lines = text.splitlines()
    keys = [i for i, line in enumerate(lines) if " = " in line]
    at = data.draw(st.sampled_from(keys), label="line")
    key, _, value = lines[at].partition(" = ")
    how = data.draw(
        st.sampled_from(
            ["value"] * 6 + ["key"] * 6 + ["line", "drop", "twice", "rename", "move", "bytes"]
        )
    )
    if how == "value":
        lines[at] = f"{key} = {data.draw(ODD)}"
    elif how == "key":
        table, line = data.draw(st.sampled_from(INSERTIONS))
        lines.insert(lines.index(table) + 1 if table in lines else 0, line)
    elif how == "line":
        lines.insert(data.draw(st.integers(0, len(lines))), data.draw(st.sampled_from(LINES)))
    elif how == "drop":
        del lines[at]
    elif how == "twice":
        lines.insert(at, lines[at])
    elif how == "rename":
        lines[at] = (
            f"{data.draw(st.one_of(st.text(max_size=9).map(json.dumps), st.just(key[1:])))} = {value}"
        )
    elif how == "move":
        lines.insert(data.draw(st.integers(0, len(lines))), lines.pop(at))
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if how == "bytes":
        place = data.draw(st.integers(0, len(content)))
        noise = data.draw(st.binary(min_size=1, max_size=4))
        content = content[:place] + noise + content[place + data.draw(st.integers(0, 9)) :]
    return content


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
    broken = shutil.copytree(series_folder / "step1", folder / "broken" / "step1")
    (broken / "config.json").write_text('{"model_type": "gpt_neox"')
    return folder


def answers(folder: Path, series: Path, data: st.DataObject) -> Path:
    """Write a mutated recipe and check that it gives a plan or one line; returns it."""
    content = recipe_text(series).encode()
    for _ in range(data.draw(st.sampled_from([1, 1, 1, 2, 3]), label="changes")):
        content = mutate(data, content.decode("utf-8", "replace"))
    path = folder / "recipe.toml"
    path.write_bytes(content)
    try:
        show_plan(make_plan(load_recipe(path)), open_console())
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
