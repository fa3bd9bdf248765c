"""`toy`: everything as small as it gets, from scratch. For tests and for trying the commands, not for results."""

from __future__ import annotations

from backbones.tiny.model import Tiny
from heads.decoder import FlatDecoder
from heads.tokens import Tokens
from vla.recipe import Lora, Recipe, Train, Tuning


def toy() -> Recipe:
    return Recipe(
        name="toy",
        backbone=Tiny.Config(weights=None, dim=16, layers=1, heads=2, queries=2, eye_width=8, eye_blocks=1),
        head=Tokens.Config(bins=32, basis=8, decoder=FlatDecoder.Config(width=16, depth=1, features=8)),
        horizon=4,
        execute=2,
        tuning=Tuning(lora=Lora(rank=2, alpha=4)),
        train=Train(steps=20, batch_size=8, warmup=2, save_every=10, val_every=10, log_every=5),
    )
