"""Presets: functions that return a `Recipe`, by the name that `vla train NAME` takes."""

from collections.abc import Callable

from vla.recipe import Recipe
from vla.recipes.cloud import dp3, grounded_lifted, lifted
from vla.recipes.fused import fused, geometry_only, semantic_only
from vla.recipes.grounded import geometry, grounded, grounded_depth, masked, painted
from vla.recipes.libero import libero
from vla.recipes.metaworld import metaworld
from vla.recipes.pick import pick, raw
from vla.recipes.pusht import pusht
from vla.recipes.smollm2 import smollm2
from vla.recipes.told import reads, told
from vla.recipes.toy import toy

PRESETS: dict[str, Callable[[], Recipe]] = {
    preset.__name__: preset for preset in (pick, raw, grounded, painted, grounded_depth, masked, geometry, dp3, lifted, grounded_lifted, fused,
                                           semantic_only, geometry_only, libero, metaworld, pusht, smollm2, told, reads, toy)}

__all__ = ["PRESETS"]
