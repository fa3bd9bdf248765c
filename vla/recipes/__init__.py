"""Presets: functions that return a `Recipe`, by the name that `vla train NAME` takes."""

from collections.abc import Callable

from vla.recipe import Recipe
from vla.recipes.demo import demo
from vla.recipes.toy import toy

PRESETS: dict[str, Callable[[], Recipe]] = {"demo": demo, "toy": toy}

__all__ = ["PRESETS"]
