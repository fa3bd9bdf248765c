"""Set-of-mark prompting (arXiv 2310.11441) as OBEYED-VLA (arXiv 2512.22519) grounds: number the masks, ask a VLM for numbers.

Every candidate is outlined on the inside and numbered at its innermost point. The VLM answers with one JSON object, names to lists
of numbers, an empty list where it sees no match: that is how an absent target is rejected. In further views the crops from the
base view go along as reference pictures, so no calibration is needed. Whatever is not exactly such an answer counts as none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool
from pydantic import Field
from scipy import ndimage
from torch import nn

from perception.grounding import ASKERS
from perception.grounding.candidates import overlaps
from perception.grounding.nested import component
from perception.stages import Detections, Picture
from robot_io import UserError
from robot_io.registry import ComponentConfig

OUTLINE, LABEL, CROP = 3, 16, 50
"""Width of outlines, height of labels, shorter side of reference crops, all in pixels (the paper's)."""
# Set1 of ColorBrewer, which the paper outlines with.
COLORS = ((228, 26, 28), (55, 126, 184), (77, 175, 74), (152, 78, 163), (255, 127, 0), (255, 255, 51), (166, 86, 40), (247, 129, 191))


class SetOfMark(nn.Module):
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["set_of_mark"] = "set_of_mark"
        asker: component(ASKERS) = Field({"kind": "endpoint"}, validate_default=True, description="who answers")
        side: int = Field(448, ge=32, description="pictures with a shorter side below this are enlarged before marks are drawn")
        same: float = Field(0.7, gt=0, le=1, description="candidates that overlap (IoU) by more get one number")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.asker = ASKERS.load(config.asker.kind)(config.asker)

    def select(self, picture: Picture, candidates: Detections, phrases: Sequence[str], instruction: str,
               references: Sequence[Picture | None]) -> list[int | None]:
        if candidates.masks is None:
            raise UserError("selector set_of_mark", "the candidates have no masks", "masks to outline", "add a segmenter")
        marked = distinct(candidates, self.config.same)
        if not len(marked):
            return [None] * len(phrases)
        known = {name: crop for name, crop in zip(phrases, references, strict=True) if crop is not None}
        times = max(1, round(self.config.side / min(picture.shape[:2])))
        numbered = draw_marks(_enlarged(picture, times), _enlarged(candidates.masks[marked], times, axis=1))
        answer = self.asker.ask([numbered, *(_reference(crop) for crop in known.values())],
                                question(phrases, len(marked), instruction, list(known)))
        ids = parse_answer(answer, phrases, len(marked)) or {}
        return [int(marked[ids[name][0] - 1]) if len(ids.get(name, ())) == 1 else None for name in phrases]


def distinct(candidates: Detections, same: float) -> np.ndarray:
    """Indices of candidates without near copies, the surest of each kept, as they are numbered."""
    kept: list[int] = []
    shared = overlaps(candidates.masks, candidates.masks)
    for i in np.argsort(-candidates.scores, kind="stable"):
        if candidates.masks[i].any() and all(shared[i, k] <= same for k in kept):
            kept.append(int(i))
    return np.array(kept, np.int64)


def draw_marks(picture: Picture, masks: Bool[np.ndarray, "n h w"]) -> Picture:
    """The picture with every mask outlined on the inside and numbered from 1 in a black box at its innermost point."""
    from PIL import Image, ImageDraw, ImageFont

    drawn = picture.copy()
    depths = [ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1] for mask in masks]
    for i, depth in enumerate(depths):
        drawn[(depth > 0) & (depth <= OUTLINE)] = COLORS[i % len(COLORS)]
    image = Image.fromarray(drawn)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(LABEL)
    for i, depth in enumerate(depths):
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        box = pen.textbbox((x, y), str(i + 1), font=font, anchor="mm")
        pen.rectangle((box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2), fill="black")
        pen.text((x, y), str(i + 1), font=font, anchor="mm", fill="white")
    return np.asarray(image)


def question(names: Sequence[str], count: int, instruction: str, known: Sequence[str]) -> str:
    """What the VLM is asked."""
    lines = [
        f"The {'first ' if known else ''}picture shows regions with outlines and numbers from 1 to {count}.",
        *(f"Picture {i} shows the thing called {json.dumps(name)}, seen from another side." for i, name in enumerate(known, 2)),
        f"A robot is told: {json.dumps(instruction)}.",
        f"Which region shows which of these things? {json.dumps(list(names))}",
        "Answer with one JSON object only: each name, exactly as written, and the list of its region's number.",
        "Give at most one number for a name and use no number twice.",
        "Where a thing is not in the picture, or you are not sure, give an empty list. Never guess.",
        "For example: " + json.dumps({name: [i] if i == 1 else [] for i, name in enumerate(names, 1)}),
    ]
    return "\n".join(lines)


def parse_answer(answer: str, names: Sequence[str], count: int) -> dict[str, list[int]] | None:
    """The numbers by name; None unless the answer is exactly what was asked for.

    A Markdown fence around the object is forgiven. A missing or unknown name, anything but whole numbers from 1 to `count`, or a
    number given to two names is not.
    """
    text = re.sub(r"^```(?:json)?\s*|\s*```$", "", answer.strip())
    try:
        ids = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(ids, dict) or set(ids) != set(names):
        return None
    for value in ids.values():
        if not isinstance(value, list) or not all(type(i) is int and 1 <= i <= count for i in value):
            return None
    given = [i for value in ids.values() for i in value]
    return ids if len(given) == len(set(given)) else None


def _enlarged(array: np.ndarray, times: int, axis: int = 0) -> np.ndarray:
    """Every pixel `times` times as high and as wide."""
    return array.repeat(times, axis).repeat(times, axis + 1)


def _reference(crop: Picture) -> Picture:
    """A crop with its shorter side at `CROP` pixels."""
    from PIL import Image

    height, width = crop.shape[:2]
    scale = CROP / min(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize(size, Image.Resampling.BICUBIC))
