"""Components by name: what `kind: diffusion` means, and the card that `vla list` prints for it.

A registry holds *addresses* (`"heads.diffusion:Diffusion"`), so listing what exists imports none of it and works on a
robot PC without torch. Other distributions add theirs through entry points, e.g. in their `pyproject.toml`:

    [project.entry-points."vla.heads"]
    my_head = "my_package.my_head:MyHead"

with the card in class attributes `paper`, `needs` and `provides`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny, ValidationError

from robot_io.errors import UserError, nearest


class ComponentConfig(BaseModel):
    """Base of every component's configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str


@dataclass(frozen=True)
class Card:
    """What a user wants to know before choosing a component."""

    kind: str
    summary: str
    paper: str = ""
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()


class Registry:
    """A table from `kind` to a class, imported when asked for.

    Every class has a nested `Config(ComponentConfig)` and is built from it.
    """

    def __init__(self, noun: str, group: str) -> None:
        self.noun, self.group = noun, group
        self._addresses: dict[str, str] = {}
        self._cards: dict[str, Card] = {}

    def add(
        self,
        kind: str,
        address: str,
        summary: str,
        *,
        paper: str = "",
        needs: tuple[str, ...] = (),
        provides: tuple[str, ...] = (),
    ) -> None:
        self._addresses[kind] = address
        self._cards[kind] = Card(kind, summary, paper, needs, provides)

    def kinds(self) -> list[str]:
        return sorted({*self._addresses, *(point.name for point in entry_points(group=self.group))})

    def load(self, kind: str) -> Any:
        """The class named `kind`, which may also be an address of your own: `my_module:MyClass`.

        Raises:
            UserError: no such kind (names the nearest), or a package it needs is not installed.
        """
        try:
            if kind in self._addresses or ":" in kind:
                return load_address(self._addresses.get(kind, kind))
            for point in entry_points(group=self.group):
                if point.name == kind:
                    return point.load()
        except ModuleNotFoundError as error:
            raise UserError(
                f"{self.noun} '{kind}'",
                f"needs the package '{error.name}'",
                "it to be installed",
                "run: pip install 'swapvla[all]'",
            ) from error
        raise UserError(
            f"{self.noun} '{kind}'",
            "not known",
            f"one of the registered kinds: {nearest(kind, self.kinds())}",
            f"see `vla list {self.noun}`",
        )

    def configure(self, data: dict[str, Any] | ComponentConfig) -> ComponentConfig:
        """Validate `{"kind": …, **options}` into that kind's own `Config`."""
        if isinstance(data, ComponentConfig):
            return data
        if "kind" not in data:
            raise UserError(self.noun, "has no 'kind'", f"one of {', '.join(self.kinds())}", "add kind: …")
        return self.load(data["kind"]).Config.model_validate(data)

    def cards(self) -> list[Card]:
        cards = dict(self._cards)
        for point in entry_points(group=self.group):
            made = point.load()
            cards[point.name] = Card(
                point.name,
                (made.__doc__ or "").strip().split("\n")[0],
                getattr(made, "paper", ""),
                tuple(getattr(made, "needs", ())),
                tuple(getattr(made, "provides", ())),
            )
        return [cards[kind] for kind in sorted(cards)]


def component(registry: Registry, explain: Callable[[ValidationError, str], UserError]) -> Any:
    """The type of a pydantic field that holds one component's configuration, `{"kind": …, **options}` of any kind in `registry`.

    Args:
        explain: what to say of options that the component of that kind refuses.
    """

    def configure(data: Any) -> ComponentConfig:
        if not isinstance(data, dict | ComponentConfig):
            raise UserError(registry.noun, f"{data!r} is not a component", "a mapping with its 'kind'", f"write {{kind: {data}}}")
        try:
            return registry.configure(data)
        except ValidationError as error:
            raise explain(error, data["kind"]) from None

    return Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(configure)]


def load_address(address: str) -> Any:
    """What `module:name` names.

    Raises:
        UserError: no such module, or no such name in it.
        ModuleNotFoundError: the module needs a package that is not installed.
    """
    module, _, name = address.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        found = f"there is no module '{error.name}'"
    except AttributeError:
        found = f"module '{module}' has no '{name}'"
    raise UserError(f"address '{address}'", found, "module:Class", "check the spelling and that the module is on the Python path")
