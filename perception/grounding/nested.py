"""Configurations inside configurations: the type of a field that holds one component of a registry."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from robot_io import UserError
from robot_io.errors import nearest
from robot_io.registry import Registry
from robot_io.registry import component as any_component


def component(registry: Registry) -> Any:
    """A field's type: `{"kind": …, **options}` of any kind in `registry`, in its own `Config`."""

    def explain(error: ValidationError, kind: str) -> UserError:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if isinstance(cause := first.get("ctx", {}).get("error"), UserError):
            return cause
        known = nearest(key, registry.load(kind).Config.model_fields)
        remedy = known if first["type"] == "extra_forbidden" else "correct it"
        return UserError(f"{registry.noun} '{kind}'", f"{key}: {first['msg']}", "a valid option", remedy)

    return any_component(registry, explain)
