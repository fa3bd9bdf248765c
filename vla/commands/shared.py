"""What commands share: options, and how a result is told."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

from robot_io import UserError

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options by dotted path; values are YAML.")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout and nothing else.")]


def tell(found: dict[str, Any], as_json: bool, sentence: str) -> None:
    """Say it once, however many processes torchrun has started."""
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found) if as_json else sentence, flush=True)


def named(argument: str, example: str) -> tuple[str, str]:
    """The two sides of `NAME=WHAT`."""
    name, equals, what = argument.partition("=")
    if not equals or not name:
        raise UserError(f"'{argument}'", "has no name", "NAME=…", f"for example {example}")
    return name, what
