"""Which Parquet files of a hub's data set hold a configuration's split: by its card or by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from runs.errors import InputError
from runs.hub.client import Notice, ask, session

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_MADE = re.compile(r"([^/]+)/(?:partial-)?([^/]+)/\d+\.parquet")  # as hubs' conversions name them
_SHOWN = 8


class NoParquet(Exception):
    """The data set is published in another format."""


def chosen_files(
    dataset: str, names: Sequence[str], card: str, *, config: str, split: str
) -> list[str]:
    """Names of a split's files, in order.

    Parameters
    ----------
    dataset
        Begins the line of an error.
    names
        All files of the commit.
    card
        The text of README.md; "" if there is none.
    config
        The wanted configuration, "" for the one that goes without saying.
    split
        The wanted split.

    Raises
    ------
    NoParquet
        If the split's files, or all, are of another format.
    InputError
        If there is no such configuration or split; the line names the key and what there is.
    """
    names = sorted(names)
    parquet = [name for name in names if name.endswith(".parquet")]
    configs = _configs(card)
    if configs:
        table = _configuration(dataset, configs, config)
        base = str(table.get("data_dir") or "").strip("/").removeprefix("./")
        base = "" if base in ("", ".") else f"{base}/"
        if table.get("data_files"):
            return _of_patterns(dataset, table, names, base, split)
        parquet = [name for name in parquet if name.startswith(base)]
        if base or not any(config in name.split("/")[:-1] for name in parquet):
            config = ""  # its files are not told by a folder of its name
    if not parquet:
        raise NoParquet
    if all(_MADE.fullmatch(name) for name in parquet):
        return _of_conversion(dataset, parquet, config, split)
    return _by_name(dataset, parquet, config, split)


def read_card(about: str, url: str, notice: Notice) -> str:
    """The text of a README.md on a hub."""
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    def call() -> str:
        answer = session().get(url, headers=build_hf_headers(), follow_redirects=True)
        hf_raise_for_status(answer)
        return str(answer.text)

    return ask(about, call, notice=notice)


def _configs(card: str) -> list[Mapping[str, Any]]:
    """`configs` of a card's front matter; empty if it has none that can be read."""
    import yaml

    match = re.match(r"\ufeff?\s*---[ \t]*\r?\n(.*?)\r?\n---", card, re.DOTALL)
    try:
        content = yaml.safe_load(match[1]) if match else None
    except (yaml.YAMLError, ValueError, RecursionError):  # a date that is none, nesting without end
        return []
    configs = content.get("configs") if isinstance(content, dict) else None
    return [c for c in configs if isinstance(c, dict)] if isinstance(configs, list) else []


def _configuration(
    dataset: str, configs: Sequence[Mapping[str, Any]], wanted: str
) -> Mapping[str, Any]:
    by_name = {str(c.get("config_name", "default")): c for c in configs}
    if wanted and wanted not in by_name:
        raise InputError(
            f"{dataset}: has no configuration `{wanted}`; set `config` to one of {some(by_name)}"
        )
    marked = next((n for n, c in by_name.items() if c.get("default") is True), "")
    chosen = wanted or marked or ("default" if "default" in by_name else "")
    if not chosen and len(by_name) > 1:
        raise InputError(
            f"{dataset}: has several configurations; set `config` to one of {some(by_name)}"
        )
    return by_name[chosen or next(iter(by_name))]


def _of_patterns(
    dataset: str, table: Mapping[str, Any], names: Sequence[str], base: str, split: str
) -> list[str]:
    """Files that a configuration's `data_files` name."""
    splits = _patterns(table["data_files"])
    config = table.get("config_name", "default")
    if split not in splits:
        raise InputError(
            f"{dataset}: configuration `{config}` has no split `{split}`; set `split` to one of "
            f"{some(splits)}"
        )
    signs = [glob(base + p.removeprefix("./").lstrip("/")) for p in splits[split]]
    found = [n for n in names if any(sign.fullmatch(n) for sign in signs)]
    parquet = [n for n in found if n.endswith(".parquet")]
    if found and not parquet:
        raise NoParquet
    if not found:
        raise InputError(
            f"{dataset}: no file fits what its card says of split `{split}` of `{config}` "
            f"({some(splits[split])}); set `split` or `config` to another"
        )
    return parquet


def _patterns(files: Any) -> dict[str, list[str]]:
    """`data_files` of a card in its several spellings, as patterns by split."""
    found: dict[str, list[str]] = {}
    for split, paths in _pairs(files):
        listed = [paths] if isinstance(paths, str) else paths
        if isinstance(listed, list):
            found.setdefault(str(split), []).extend(str(p) for p in listed)
    return found


def _pairs(files: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(files, dict):
        yield from files.items()
        return
    for row in [files] if isinstance(files, str) else files if isinstance(files, list) else ():
        if isinstance(row, dict) and "path" in row:
            yield row.get("split", "train"), row["path"]
        elif isinstance(row, str):
            yield "train", row


def glob(pattern: str) -> re.Pattern[str]:
    """A pattern in which `*` stays within a folder and `**` does not, as an expression."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\]|\{[^{}]*\})", pattern)
    spelt = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    found = ""
    for place, part in enumerate(parts):
        if place % 2 == 0:
            found += re.escape(part)
        elif part[0] == "[":
            inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            found += f"[{'^' + inner[1:] if inner[0] in '!^' and len(inner) > 1 else inner}]"
        elif part[0] == "{":
            found += f"(?:{'|'.join(re.escape(p) for p in part[1:-1].split(','))})"
        else:
            found += spelt[part]
    try:
        return re.compile(found)
    except re.error:  # a range of a class that runs backwards
        return re.compile(re.escape(pattern))


def _of_conversion(dataset: str, names: Sequence[str], config: str, split: str) -> list[str]:
    """Files as a hub's conversion names them: CONFIGURATION/SPLIT/NUMBER.parquet."""
    parts = {name: match for name in names if (match := _MADE.fullmatch(name))}
    configs = list(dict.fromkeys(match[1] for match in parts.values()))
    chosen = config or ("default" if "default" in configs else "")
    if not chosen and len(configs) > 1:
        raise InputError(
            f"{dataset}: has several configurations; set `config` to one of {some(configs)}"
        )
    chosen = chosen or configs[0]
    if chosen not in configs:
        raise InputError(
            f"{dataset}: has no configuration `{chosen}`; set `config` to one of {some(configs)}"
        )
    splits = list(dict.fromkeys(match[2] for match in parts.values() if match[1] == chosen))
    if split not in splits:
        raise InputError(
            f"{dataset}: configuration `{chosen}` has no split `{split}`; set `split` to one of "
            f"{some(splits)}"
        )
    return [name for name, match in parts.items() if (match[1], match[2]) == (chosen, split)]


def _by_name(dataset: str, names: Sequence[str], config: str, split: str) -> list[str]:
    """Files whose folder or name says the split, within a folder of the configuration's name."""
    if not names:
        raise NoParquet
    if config and config != "default":
        inside = [n for n in names if config in n.split("/")[:-1]]
        if not inside:
            raise InputError(
                f"{dataset}: has no configuration `{config}`; set `config` to a folder of its files, "
                f"which are {some(names)}"
            )
        names = inside
    found = [n for n in names if _says(n, _SPLITS.get(split, (split,)))]
    if not found and split == "train":
        named = any(_says(n, words) for n in names for words in _SPLITS.values())
        found = [] if named else list(names)
    if not found:
        raise InputError(
            f"{dataset}: no Parquet file of split `{split}`; set `split` to one that its files name: "
            f"{some(names)}"
        )
    return found


def _says(name: str, words: Iterable[str]) -> bool:
    sign = rf"(^|[-_./ ])({'|'.join(map(re.escape, words))})([-_./ ]|$)"
    return re.search(sign, name) is not None


def some(names: Iterable[str]) -> str:
    """A few names of many."""
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (" …" if len(listed) > _SHOWN else "")
