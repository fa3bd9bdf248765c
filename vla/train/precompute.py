"""Fill the cache of frozen perception without training, on as many processes as there are cores to spare."""

from __future__ import annotations

import time
from typing import Any

from robot_io import UserError
from vla.data import Demonstrations
from vla.policy import Policy
from vla.recipe import Recipe
from vla.train.display import Display
from vla.train.features import Features, obstacle, reach


def precompute(recipe: Recipe, *, workers: int = 1, progress: bool = True) -> dict[str, Any]:
    """What was computed (or found), where it lies and what it took.

    Raises:
        UserError: bad data, or nothing of this recipe's perception can be computed ahead.
    """
    began = time.perf_counter()
    demonstrations = Demonstrations(recipe)
    policy = Policy.build(recipe, demonstrations.spec, demonstrations.normalizer())
    how_far = reach(policy)
    if how_far is None or recipe.train.cache_features is False:
        reason = obstacle(policy) or "train.cache_features is false"
        raise UserError("precompute", f"nothing can be computed ahead: {reason}", "frozen perception",
                        "freeze it (tuning.vision=frozen); for an augmenting front-end, set train.cached_views")
    with Display(progress) as display:
        views = Features(policy, demonstrations, display.track, workers=workers).views
    return {"reach": how_far, "frames": len(demonstrations.actions), "views": len(views), "folders": [str(view.folder) for view in views],
            "megabytes": sum(path.stat().st_size for view in views for path in view.folder.iterdir()) / 1e6,
            "seconds": time.perf_counter() - began}
