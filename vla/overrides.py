"""Changing a recipe by dotted path, and saying in one sentence what is wrong with one.

    apply_overrides({"head": {"kind": "tokens", "bins": 256}}, ["head.kind=diffusion"])  →  {"head": {"kind": "diffusion"}}

Choosing another `kind` drops that component's other options, which belonged to the old kind.
"""

from __future__ import annotations

import copy
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from robot_io import UserError
from robot_io.errors import nearest


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `data` with every `path=value` set. Kinds are set first, whatever the order, then the rest in order.

    Raises:
        UserError: an override without `=`, a value that is not YAML, a path through something that has no parts.
    """
    parsed = [_parse(override) for override in overrides]
    result = copy.deepcopy(dict(data))
    for path, value in sorted(parsed, key=lambda item: item[0][-1] != "kind"):
        _assign(result, path, value)
    return result


def _parse(override: str) -> tuple[list[str], Any]:
    path, equals, value = override.partition("=")
    if not equals or not all(path.strip().split(".")):
        raise UserError(f"override '{override}'", "cannot be read", "path.to.key=value", "write for example train.steps=2000")
    try:
        return path.strip().split("."), yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"override '{override}'", "its value is not YAML", "a number, a word, [a, list] or {a: mapping}",
                        "quote the whole override in the shell") from None


def _assign(node: Any, path: list[str], value: Any) -> None:
    *parents, last = path
    for depth, key in enumerate(parents):
        node = _child(node, key, path[:depth + 1])
    if isinstance(node, list):
        node[_position(node, last, path)] = value
    elif not isinstance(node, dict):
        raise _no_parts(path[:-1], node)
    elif last == "kind" and node.get("kind") != value:
        node.clear()
        node["kind"] = value
    else:
        node[last] = value


def _child(node: Any, key: str, path: list[str]) -> Any:
    if isinstance(node, list):
        return node[_position(node, key, path)]
    if isinstance(node, dict):
        return node.setdefault(key, {})  # an unknown key is reported by validation, which knows the known ones
    raise _no_parts(path[:-1], node)


def _position(items: list, key: str, path: list[str]) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise UserError(f"override '{'.'.join(path)}'", f"the list has {len(items)} entries", "the number of one, from 0",
                        f"set the whole list: {'.'.join(path[:-1])}=[{{kind: …}}]")
    return int(key)


def _no_parts(path: list[str], node: Any) -> UserError:
    return UserError(f"override '{'.'.join(path)}…'", f"'{'.'.join(path)}' is {node!r} and has no parts",
                     "a path to a recipe field", "shorten the path")


def explain(error: ValidationError, model: type[BaseModel], thing: str = "recipe") -> UserError:
    """The first mistake that pydantic found, as a sentence that names the key by its dotted path within `thing`."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return cause
    *parents, key = first["loc"] or ("value",)
    name = f"{thing} key '{'.'.join(map(str, first['loc']))}'"
    if first["type"] == "extra_forbidden":
        return UserError(name, "not known", f"a key of the {thing}", nearest(str(key), _fields_at(model, parents)))
    found = "missing" if first["type"] == "missing" else repr(first["input"])
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("Field ")
    return UserError(name, found, expected, "correct it")


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys known at `path` inside `model`."""
    for key in path:
        inner = model.model_fields[key].annotation if key in model.model_fields else None
        candidates = [inner, *typing.get_args(inner)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields)
