"""`summary`: does it help to be told what there is (arXiv 2306.05696), and is it enough?

Same data, head, steps and trained parts (all but the eye) in every cell; only what the policy sees differs.
"""

from __future__ import annotations

from vla.ablate import Cell, Grid

TEMPLATE = "captioner: {kind: template, unit: mm}"


def _cell(pictures: str, text: str, front_end: str = "") -> Cell:
    return Cell({"pictures": pictures, "text": text}, (f"perception=[{front_end}]",))


def summary() -> Grid:
    return Grid(
        "summary", "told", seeds=(0,), trials=100,
        common=("train.steps=400", "train.batch_size=32", "train.learning_rate=1e-3"),
        cells=(
            _cell("RGB", "none"),
            _cell("RGB", "template, mm", f"{{kind: summary, {TEMPLATE}}}"),
            _cell("none", "template, mm", f"{{kind: summary, {TEMPLATE}, pictures: hidden}}"),
        ),
    )
