"""`vla precompute`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla.commands.shared import Json, Overrides, tell


def precompute(
    recipe: Annotated[str, typer.Argument(help="A preset or a recipe.yaml.")],
    overrides: Overrides = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes. The result is the same whatever their number.")] = 1,
    as_json: Json = False,
) -> None:
    """Compute frozen perception ahead for every frame of the demonstrations, as training would at its start.

    What is found in the cache already is not computed again; every run that shares data, configuration and frozen weights finds it.

    Examples:

    - `vla precompute grounded data.root=data/pick --workers 8`

    - `vla precompute grounded 'perception=[{kind: shift}]' train.cached_views=4`
    """
    from vla.recipe import load_recipe
    from vla.train.precompute import precompute as run

    found = run(load_recipe(recipe, overrides), workers=workers)
    tell(found, as_json, f"{found['frames']} frames, {found['views']} view(s), {found['megabytes']:.0f} MB of {found['reach']} "
                         f"in {found['seconds']:.0f} s: {', '.join(found['folders'])}")
