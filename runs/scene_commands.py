"""The command that writes scenes into a file, and a sheet of them to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from runs.errors import InputError
from runs.terminal import open_console

if TYPE_CHECKING:
    from runs.scene_inputs import DrawnScenes

_ON_SHEET = 6


def scenes(
    out: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    groups: Annotated[
        int, typer.Option(min=1, max=20_000, help="Groups of cases of each subset.")
    ] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    subset: Annotated[
        str,
        typer.Option(metavar="LIST", help="Of colour, shape, material, position."),
    ] = "colour",
    tiers: Annotated[
        str | None, typer.Option(metavar="LIST", help="Visual tiers; default all.")
    ] = None,
    text_tiers: Annotated[
        str | None, typer.Option(metavar="LIST", help="Text tiers; default the style's own.")
    ] = None,
    style: Annotated[str, typer.Option(help="paper, or tiny for the small model.")] = "paper",
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw a few images of every tier there too."),
    ] = None,
    theme: Annotated[str, typer.Option(help="Of the sheet: light or dark.")] = "light",
) -> None:
    """Write images and texts that contradict each other, a row a case, images as PNG."""
    from runs.damage import named_errors
    from runs.scene_files import write_scenes
    from runs.scene_inputs import make_scenes

    if out.suffix != ".parquet":
        raise InputError(f"{out}: give a name that ends in .parquet")
    if style not in ("paper", "tiny"):
        raise InputError(f"--style is {style}; give paper or tiny")
    try:
        made = make_scenes(
            style,
            groups=groups,
            seed=seed,
            subsets=tuple(subset.split(",")),
            visual_tiers=_numbers(tiers, "--tiers"),
            text_tiers=_numbers(text_tiers, "--text-tiers"),
        )
    except ValueError as error:
        raise InputError(f"scenes: {error}") from None
    console = open_console()
    if sheet is not None:
        _draw_sheet(sheet, made, theme)
        console.print(str(sheet), soft_wrap=True, highlight=False)
    with named_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_scenes(out, made, made={"style": style, "seed": seed, "groups": groups})
    images = len(np.unique(made.cases.image))
    console.print(
        f"{out}: {len(made.cases):,} cases of {groups * len(subset.split(','))} groups over "
        f"{images:,} images",
        soft_wrap=True,
        highlight=False,
    )


def _draw_sheet(path: Path, made: DrawnScenes, theme: str) -> None:
    """One row a subset and tier: targets of different groups, the last one a control."""
    from xarray import Dataset

    from figures.save import image_bytes, write_atomic
    from figures.scene_sheet import draw_scene_sheet
    from figures.style import theme_named
    from runs.damage import named_errors

    if path.suffix.lower() != ".png":
        raise InputError(f"--sheet is {path}; give a name that ends in .png")
    try:
        chosen = theme_named(theme)
    except ValueError as error:
        raise InputError(f"--theme: {error}") from None
    cases = made.cases
    rows = {}
    several = len(set(cases.subset.tolist())) > 1
    for subset in dict.fromkeys(cases.subset.tolist()):
        for tier in np.unique(cases.visual_tier[cases.subset == subset]).tolist():
            here = (cases.subset == subset) & (cases.visual_tier == tier)
            kinds = (("conflict", _ON_SHEET - 1), ("irrelevant_image", 1))
            numbers = [
                n
                for kind, count in kinds
                for n in np.unique(cases.image[here & (cases.kind == kind)])[:count].tolist()
            ]
            name = f"{subset}\ntier {tier}" if several else f"tier {tier}"
            rows[name] = [made.image(number) for number in numbers]
    figure = draw_scene_sheet(rows, chosen)
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, image_bytes(figure, Dataset(attrs={"theme": theme}), "png"))


def _numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise InputError(f"{option} is {text}; give tiers with commas between, such as 0,1,2")
    return tuple(int(part) for part in parts)


def add_scene_commands(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command()(scenes)
