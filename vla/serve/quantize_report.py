"""One page about a quantised policy, as HTML and as markdown: memory, time, what its actions are off, success, which blocks suffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from robot_io import ActionSpec
from vla.evaluate.statistics import Comparison, Rate, percent
from vla.evaluate.trials import versions
from vla.figures import bar_svg
from vla.files import write_text
from vla.serve.fidelity import Latency, Option

SUFFERING = 12


@dataclass(frozen=True)
class Variant:
    """One of the two policies. `memory` is bytes by group of layers, `rest` those of everything else."""

    name: str
    memory: Mapping[str, int]
    rest: int
    latency: Latency
    success: Rate | None = None

    @property
    def total(self) -> int:
        return sum(self.memory.values()) + self.rest


@dataclass(frozen=True)
class Page:
    """Everything the page tells.

    Attributes:
        error: mean absolute difference of each action dimension, in its unit; `span` is the mean absolute action beside it.
        blocks: every block in every format that was tried, alone.
        formats: the format of each block that is in the result.
    """

    title: str
    spec: ActionSpec
    frames: int
    full: Variant
    small: Variant
    error: np.ndarray
    span: np.ndarray
    relative: float
    formats: Mapping[str, str]
    blocks: Sequence[Option] = ()
    comparison: Comparison | None = None
    commands: Sequence[str] = field(default_factory=tuple)


def write_page(folder: Path, page: Page) -> None:
    """`quantisation.html` and `quantisation.md`."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, autoescape=lambda name: name is not None and name.endswith(".html"))
    context = _context(page)
    for ending in ("html", "md"):
        made = environment.get_template(f"quantize_report.{ending}").render(context)
        write_text(folder / f"quantisation.{ending}", made if made.endswith("\n") else made + "\n")


def _context(page: Page) -> dict[str, object]:
    variants = (page.full, page.small)
    groups = list(dict.fromkeys(group for variant in variants for group in variant.memory))
    memory = [{"name": group, "values": [_mb(variant.memory.get(group, 0)) for variant in variants]} for group in groups]
    memory.append({"name": "the rest", "values": [_mb(variant.rest) for variant in variants]})
    memory.append({"name": "together", "values": [_mb(variant.total) for variant in variants]})
    times = [{"name": label, "values": [f"{getattr(variant.latency, attribute):.1f}" for variant in variants]}
             for label, attribute in (("p50", "p50"), ("p99", "p99"), ("computed by one thread, median", "cpu"))]
    return {
        "title": page.title, "names": [variant.name for variant in variants], "memory": memory, "times": times,
        "ratio": f"{page.small.total / page.full.total:.2f}", "frames": page.frames, "relative": f"{100 * page.relative:.3f}",
        "errors": [{"name": name, "unit": unit, "error": f"{error:.2g}", "span": f"{span:.2g}", "share": f"{100 * error / max(span, 1e-9):.2g}"}
                   for name, unit, error, span in zip(page.spec.names, page.spec.units, page.error, page.span, strict=True)],
        "success": [{"name": variant.name, "value": percent(variant.success), "n": variant.success.n, "bar": Markup(bar_svg(variant.success))}
                    for variant in variants if variant.success is not None],
        "comparison": page.comparison, "formats": page.formats, "suffering": _suffering(page.blocks), "commands": page.commands,
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }


def _suffering(blocks: Sequence[Option]) -> list[dict[str, object]]:
    """The blocks that move the actions most, the worst first, in all their formats."""
    worst: dict[str, float] = {}
    for option in blocks:
        worst[option.block] = max(worst.get(option.block, 0.0), option.error)
    top = sorted(worst, key=lambda block: -worst[block])[:SUFFERING]
    formats = list(dict.fromkeys(option.format for option in blocks if option.format != "full"))
    found = {(option.block, option.format): option for option in blocks}
    return [{"block": block, "full": _mb(found[block, "full"].bytes),
             "by_format": {how: f"{100 * found[block, how].error:.3f}" if (block, how) in found else "–" for how in formats}}
            for block in top]


def _mb(count: int) -> str:
    return f"{count / 1e6:.2f}"
