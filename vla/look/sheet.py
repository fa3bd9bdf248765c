"""One sheet of pictures: a column per thing that perception found, a row per view, and what it said in words below.

What a stage adds is found by comparing its percept with the one before: pictures it changed, regions, depth, feature maps, tokens,
text, and its `evidence`. Evidence is drawn by what it is: `[B, V, H, W]` booleans are masks and numbers are heat
maps, `[B, V, 3, H, W]` are pictures, detections (or boxes, per observation and view) are boxes, a cloud is dots, short lists are text.
Observation 0 of the batch is drawn.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from perception.geometric import SET1
from perception.percept import Batch, Percept
from perception.point_cloud import Cloud
from perception.regions import Regions
from perception.stages import Detections
from robot_io.files import replacing
from vla.look.cloud import draw_cloud, draw_planes
from vla.look.components import components

if TYPE_CHECKING:
    from vla.look import Stage

INK, SOFT = "#1f2328", "#59636e"
COLUMNS, CELL = 6, 2.3  # panels side by side, inches
COLOURS = ("#c2410c", "#0369a1", "#be185d", "#15803d", "#6d28d9", "#a16207")


@dataclass(frozen=True)
class Panel:
    """A column: `draw(axes, view)` fills one cell."""

    title: str
    draw: Callable[[Axes, int], None]


def draw_sheet(stages: Sequence[Stage], batch: Batch, title: str, out: Path) -> None:
    """Draw and write the sheet, in one piece."""
    panels, lines = collect(stages, batch)
    views, rows = len(batch.cameras), -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // rows)
    blocks = [panels[i:i + columns] for i in range(0, len(panels), columns)]
    width = CELL * columns + 0.3
    text = "\n".join(part for line in lines for part in textwrap.wrap(line, int(13 * width), subsequent_indent="      "))
    title = textwrap.fill(title, int(9 * width))
    head, words = 0.3 + 0.22 * (title.count("\n") + 1), 0.16 * (text.count("\n") + 2) if text else 0.1
    height = rows * (views * CELL + 0.3) + head + words
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(0.15 / width, 1 - 0.15 / height, title, fontsize=12, fontweight="bold", color=INK, va="top")
    for number, block in enumerate(blocks):
        top = head + number * (views * CELL + 0.3)
        for column, panel in enumerate(block):
            for view, camera in enumerate(batch.cameras):
                left, bottom = 0.3 + column * CELL, height - top - 0.3 - (view + 1) * CELL + 0.1
                axes = figure.add_axes((left / width, bottom / height, (CELL - 0.1) / width, (CELL - 0.1) / height))
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_color("#d8dee4")
                panel.draw(axes, view)
                if view == 0:
                    axes.set_title(panel.title, fontsize=9, color=INK, pad=3)
                if column == 0:
                    axes.set_ylabel(camera, fontsize=9, color=SOFT, labelpad=2)
    figure.text(0.15 / width, (words - 0.1) / height, text, fontsize=8, family="monospace", color=INK, va="top")
    _write(figure, out)


def collect(stages: Sequence[Stage], batch: Batch) -> tuple[list[Panel], list[str]]:
    """The panels of all stages, the last one being what the policy sees, and the lines below them."""
    camera = stages[0].percept.images[0]
    panels, lines = [_pictures("cameras", stages[0].percept)], []
    final = stages[-1].percept
    for before, stage in pairwise(stages):
        more, said = changes(stage.kind, before.percept, stage.percept, camera)
        panels += more
        lines += said
        changed = stage.percept.images is not before.percept.images and stage.percept.images is not final.images
        if changed and stage.percept.images is not None:
            panels.append(_pictures(f"{stage.kind}: picture", stage.percept))
    if final.images is None:
        lines.append("the policy sees none of the pictures, only what was made of them")
    else:
        panels.append(_pictures("what the policy sees", final))
    if final.abstain is not None:
        lines.append("the policy " + ("HOLDS STILL: what was asked for is not there" if final.abstain[0] else "acts"))
    return panels, lines


def _pictures(title: str, percept: Percept) -> Panel:
    return Panel(title, lambda axes, view: picture(axes, percept.images[0, view]))


def changes(kind: str, before: Percept, after: Percept, camera: Float[Tensor, "v 3 h w"]) -> tuple[list[Panel], list[str]]:
    """What one front-end added, as panels and lines."""
    panels, lines = [], []
    drawn = [value for value in (after.depth, before.depth) if value is not None]
    if after.regions is not None:
        drawn.append(after.regions.masks)
    fresh = {name: value for name, value in after.evidence.items() if value is not before.evidence.get(name)}
    for name, value in fresh.items():
        if not any(value is one for one in drawn) and not _said_by_regions(name, fresh):
            panel = evidence_panel(name, value, fresh, camera)
            panels += [panel] if panel else []
            lines += [] if panel else evidence_lines(name, value)
    if after.depth is not None and after.depth is not before.depth:
        panels.append(Panel(f"{kind}: depth", lambda axes, view: heat(axes, after.depth[0, view], "m")))
    if after.regions is not None and after.regions is not before.regions:
        panels.append(Panel(f"{kind}: regions", lambda axes, view: regions(axes, camera[view], after.regions, view)))
        lines.append(f"{kind}: looked for " + ", ".join(
            f"{role} “{phrase}”" for role, phrase in zip(after.regions.roles, after.regions.phrases[0], strict=True) if phrase))
    for name, maps in after.maps.items():
        if maps is not before.maps.get(name) and maps.ndim == 5 and maps.shape[1] == len(camera):
            drawn_map = components(maps[0])
            panels.append(Panel(f"{kind}: {name}", lambda axes, view, shown=drawn_map: picture(axes, shown[view])))
    if after.tokens is not None and after.tokens is not before.tokens:
        real = int(after.token_mask[0].sum())
        lines.append(f"{kind}: {after.tokens.shape[1]} tokens of {after.tokens.shape[2]} numbers, {real} of them real")
    if after.text and after.text is not before.text:
        lines.append(f"{kind}: “{after.text[0]}”")
    return panels, lines


def evidence_panel(name: str, value: Any, beside: dict[str, Any], camera: Tensor) -> Panel | None:
    """How to draw a piece of evidence, None if it is not a picture."""
    title, views = name.replace("/", ": "), len(camera)
    if isinstance(value, Cloud):
        return Panel(title, lambda axes, view: draw_cloud(axes, value, view))
    if name == "lift3d/planes":
        return Panel(title, lambda axes, view: draw_planes(axes, value, view, views))
    if isinstance(value, Tensor) and value.ndim >= 4 and value.shape[1] == views:
        if value.ndim == 4 and value.dtype == torch.bool:
            return Panel(title, lambda axes, view: overlay(axes, camera[view], value[0, view][None], [COLOURS[0]]))
        if value.ndim == 4 and value.shape[-2:] == camera.shape[-2:]:
            unit = "m" if name.endswith("depth") else ""
            return Panel(title, lambda axes, view: heat(axes, value[0, view], unit))
        if value.ndim == 5 and value.dtype == torch.bool:
            return Panel(title, lambda axes, view: overlay(axes, camera[view], value[0, view], COLOURS))
        if value.ndim == 5 and value.shape[2] == 3:
            return Panel(title, lambda axes, view: picture(axes, value[0, view]))
    if _per_view(value, views) and all(isinstance(one, Detections) for one in value[0]):
        phrases = beside.get(name.rpartition("/")[0] + "/phrases", [[]])[0]
        return Panel(title, lambda axes, view: detections(axes, camera[view], value[0][view], phrases))
    if name.endswith("/boxes") and _per_view(value, views):
        scores = beside.get(name.removesuffix("boxes") + "scores")

        def draw(axes: Axes, view: int) -> None:
            there = np.asarray(value[0][view], np.float32).reshape(-1, 4)
            sure = np.ones(len(there)) if scores is None else np.asarray(scores[0][view], np.float32).reshape(-1)
            real = (there[:, 2:] > there[:, :2]).all(1)
            detections(axes, camera[view], Detections(there[real], sure[real], np.flatnonzero(real)))

        return Panel(title, draw)
    return None


def evidence_lines(name: str, value: Any) -> list[str]:
    """A small table or list in words; nothing for what is too large to read."""
    if isinstance(value, Tensor) and value[0].numel() <= 24:
        return [f"{name}: {_numbers(value[0])}"]
    if isinstance(value, str):
        return [f"{name}: {value}"]
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        value = value[0]
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return [f"{name}: {', '.join(value)}"]
    return []


def _said_by_regions(name: str, fresh: dict[str, Any]) -> bool:
    """What was selected from candidates is shown by the regions."""
    stage, _, part = name.rpartition("/")
    return part in ("boxes", "scores", "masks") and f"{stage}/candidates" in fresh


def picture(axes: Axes, image: Float[Tensor, "3 h w"]) -> None:
    axes.imshow(image.permute(1, 2, 0).clamp(0, 1).float().cpu().numpy(), interpolation="nearest")


def heat(axes: Axes, values: Float[Tensor, "h w"], unit: str = "") -> None:
    """Numbers as colours, their range written in the corner; 0 (unknown) is white."""
    array = values.float().cpu().numpy()
    real = array[array > 0]
    low, high = np.percentile(real, [1, 99]) if real.size else (0, 1)
    axes.imshow(np.where(array > 0, array, np.nan), cmap="viridis_r", vmin=low, vmax=high, interpolation="nearest")
    _label(axes, 0.02, 0.02, f"{low:.2f} to {high:.2f} {unit}".strip(), INK)


def overlay(axes: Axes, image: Tensor, masks: Tensor, colours: Sequence[Any]) -> None:
    """Masks over a paled picture."""
    shown = 0.35 * image.permute(1, 2, 0).float().cpu().numpy() + 0.3
    for mask, colour in zip(masks.cpu().numpy(), _cycle(colours, len(masks)), strict=True):
        shown[mask] = 0.5 * image.permute(1, 2, 0).cpu().numpy()[mask] + 0.5 * np.array(_rgb(colour))
    axes.imshow(shown.clip(0, 1), interpolation="nearest")


def regions(axes: Axes, image: Tensor, found: Regions, view: int) -> None:
    """What grounding selected, in its role's colour, with its score."""
    colours = [tuple(channel / 255 for channel in SET1[role]) for role in found.roles]
    overlay(axes, image, found.masks[0, view], colours)
    for row, (role, colour) in enumerate(zip(found.roles, colours, strict=True)):
        there = bool(found.masks[0, view, row].any())
        says = f"{role} {float(found.scores[0, view, row]):.2f}" if there else f"{role} –"
        _label(axes, 0.02, 0.98 - 0.09 * row, says, colour, top=True)


def detections(axes: Axes, image: Tensor, found: Detections, phrases: Sequence[str] = ()) -> None:
    """Boxes with their scores, coloured by the phrase they answer; masks where there are some; the phrases in the corner."""
    if found.masks is not None and len(found):
        overlay(axes, image, torch.from_numpy(np.asarray(found.masks)), [COLOURS[p % len(COLOURS)] for p in found.phrase])
    else:
        picture(axes, image)
    size = image.shape[-1]
    for (x0, y0, x1, y1), score, phrase in zip(found.boxes, found.scores, found.phrase, strict=True):
        colour = COLOURS[int(phrase) % len(COLOURS)]
        axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.2))
        above = y0 > 0.08 * size  # there is room over the box
        _label(axes, (x0 + 0.5) / size, 1 - y0 / image.shape[-2], f"{score:.2f}", colour, top=not above)
    for row, phrase in enumerate(reversed(phrases)):
        _label(axes, 0.02, 0.02 + 0.08 * row, phrase, COLOURS[(len(phrases) - 1 - row) % len(COLOURS)])
    if not len(found):
        _label(axes, 0.02, 0.98, "nothing found", INK, top=True)


def _label(axes: Axes, x: float, y: float, text: str, colour: Any, top: bool = False) -> None:
    axes.text(x, y, text, transform=axes.transAxes, fontsize=6.5, color=colour, va="top" if top else "bottom",
              bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8})


def _per_view(value: Any, views: int) -> bool:
    """Whether it is indexed by observation, then view."""
    return isinstance(value, list | tuple | Tensor) and len(value) > 0 and hasattr(value[0], "__len__") and len(value[0]) == views


def _numbers(values: Tensor) -> str:
    if values.ndim > 1:
        return "  ".join(_numbers(row) for row in values)
    if values.dtype == torch.bool:
        return "(" + ", ".join("yes" if value else "no" for value in values.reshape(-1).tolist()) + ")"
    return "(" + ", ".join(f"{value:.3f}" for value in values.reshape(-1).tolist()) + ")"


def _cycle(colours: Sequence[Any], count: int) -> list[Any]:
    return [colours[i % len(colours)] for i in range(count)]


def _rgb(colour: Any) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _write(figure: Figure, out: Path) -> None:
    with replacing(out) as partial:
        figure.savefig(partial, format=out.suffix.lstrip(".") or "png", dpi=130)
