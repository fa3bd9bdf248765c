"""`backbones`: the question of VLM4VLA (arXiv 2601.03309, sec. 4) asked of `tiny` on the tabletop.

Does pretraining help, and which part must be tuned? Every cell has the same data, head, number of steps and learning rate.
"""

from __future__ import annotations

from vla.ablate import Cell, Grid

NOT_WORDS = "tuning.frozen=['^words', '^word_position']"
LAST_LAYER = "tuning.trainable=['^layers.2', '^norm', '^query']"

FULL = ("tuning.mode=full", "tuning.vision=full")
FROZEN_EYE = ("tuning.mode=full", "tuning.vision=frozen")


def _cell(start: str, tuned: str, *overrides: str) -> Cell:
    return Cell({"start": start, "tuned": tuned}, overrides)


def backbones() -> Grid:
    return Grid(
        "backbones", "pick", seeds=(0, 1), trials=100,
        common=("train.steps=400", "train.batch_size=32", "train.learning_rate=1e-3"),
        cells=(
            _cell("scratch", "all of it", "backbone.weights=null", *FULL),
            _cell("pretrained", "all of it", *FULL),
            _cell("pretrained", "all but the words", *FULL, NOT_WORDS),
            _cell("pretrained", "all but the eye", *FROZEN_EYE),
            _cell("pretrained", "LoRA, eye frozen", "tuning.mode=lora", "tuning.vision=frozen"),
            _cell("pretrained", "last layer only", "tuning.mode=frozen", "tuning.vision=frozen", LAST_LAYER),
        ),
    )
