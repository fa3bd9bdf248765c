"""Configurations inside configurations: the type of a field that holds one component of a registry."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from robot_io import UserError
from robot_io.errors import nearest
from robot_io.registry import ComponentConfig, Registry


def component(registry: Registry) -> Any:
    """A field's type: `{"kind": …, **options}` of any kind in `registry`, in its own `Config`."""

    def configure(data: Any) -> ComponentConfig:
        if not isinstance(data, dict | ComponentConfig):
            raise UserError(registry.noun, f"{data!r} is not a component", "a mapping with its 'kind'", f"write {{kind: {data}}}")
        try:
            return registry.configure(data)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if isinstance(cause := first.get("ctx", {}).get("error"), UserError):
                raise cause from None
            known = nearest(key, registry.load(data["kind"]).Config.model_fields)
            remedy = known if first["type"] == "extra_forbidden" else "correct it"
            raise UserError(f"{registry.noun} '{data['kind']}'", f"{key}: {first['msg']}", "a valid option", remedy) from None

    return Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(configure)]
