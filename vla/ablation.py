"""What an ablation leaves for people: one page with every cell's success, its interval and letters, and what each factor does.

    write_page(grid, outcomes, "runs/ablations/heads.html", command="vla ablate heads")

Cells that share a letter were not told apart (`vla.evaluate.letters`, McNemar's exact test pair by pair on the same scenes and training
seeds, Holm's adjustment). It only shows what it is given; `vla.ablate` runs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vla.ablate import Grid, Outcome
from vla.evaluate.evaluate import EvaluationResult, pool
from vla.evaluate.letters import rank
from vla.evaluate.statistics import Rate, mean_of, percent
from vla.evaluate.trials import versions
from vla.figures import bar_svg, heat_map_svg
from vla.files import write_text
from vla.report import interval

READING = ("Brackets and bars: 95 % Wilson intervals over trials; bars run from 0 to 100 %. Cells that share a letter were not told apart: McNemar's "
           "exact test on the same scenes and training seeds, p-values adjusted by Holm. Cycle time: successful trials only, on the robot's clock.")


def write_page(grid: Grid, outcomes: Sequence[Outcome], path: Path | str, *, command: str = "") -> None:
    """Write the page. `outcomes` are the grid's, in any order, at least one."""
    by_cell = {label: [o for o in outcomes if o.cell.label == label] for label in dict.fromkeys(o.cell.label for o in outcomes)}
    pooled = {label: pool([o.result for o in same]) for label, same in by_cell.items()}
    letters = _letters(by_cell)
    order = sorted(by_cell, key=lambda label: -pooled[label].success.mean)
    factors = list(outcomes[0].cell.levels)
    varied = [factor for factor in factors if len(_levels(factor, by_cell.values())) > 1]
    seeds = sorted({outcome.seed for outcome in outcomes})
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    write_text(Path(path), environment.get_template("ablation.html").render(
        title=f"Ablation: {grid.name}", factors=factors, command=command, versions=versions(), reading=READING,
        subtitle=f"{_several(len(by_cell), 'cell')} of recipe {grid.recipe}, training seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}, "
                 f"the first {grid.trials} {grid.split} scenes for every policy",
        rows=[_row(by_cell[label], pooled[label], letters.get(label, "")) for label in order],
        effects=[_effect(factor, by_cell, pooled) for factor in varied] if len(factors) > 1 else [],
        figure=Markup(_heat_map(factors, by_cell, pooled)) if len(factors) == 2 and varied else "", figure_title=" × ".join(factors),
        runs=[{"label": o.cell.label, "seed": o.seed, "recipe": o.recipe.hash, "success": percent(o.result.success)} for o in outcomes],
    ))


def _letters(by_cell: dict[str, list[Outcome]]) -> dict[str, str]:
    """Of the cells that ran the same scenes and training seeds; none while an ablation is half done."""
    successes = {label: {(o.seed, scene): success for o in same for scene, success in o.result.by_seed().items()}
                 for label, same in by_cell.items()}
    full = max((frozenset(found) for found in successes.values()), key=len)
    whole = {label: found for label, found in successes.items() if found.keys() == full}
    return {} if len(whole) < 2 else {standing.name: standing.letters for standing in rank(whole)[0]}


def _row(same: Sequence[Outcome], result: EvaluationResult, letters: str) -> dict[str, Any]:
    return {
        "levels": list(same[0].cell.levels.values()), **_share(result.success), "letters": letters,
        "wrong_object": f"{100 * result.wrong_object.mean:.1f} %", "cycle": _plain(result.cycle_seconds),
        "latency": _plain(result.mean_latency_ms), "training": _plain(mean_of([o.train_seconds for o in same])),
    }


def _effect(factor: str, by_cell: dict[str, list[Outcome]], pooled: dict[str, EvaluationResult]) -> dict[str, Any]:
    """One factor's levels, the trials of all cells that have them together."""
    levels: dict[str, list[EvaluationResult]] = {}
    for label, same in by_cell.items():
        levels.setdefault(same[0].cell.levels[factor], []).append(pooled[label])
    return {"factor": factor, "rows": [{"level": level, **_share(pool(results).success)} for level, results in levels.items()]}


def _share(rate: Rate) -> dict[str, Any]:
    return {"bar": Markup(bar_svg(rate)), "success": interval(rate), "n": rate.n}


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _plain(value: Rate) -> str:
    return "–" if np.isnan(value.mean) else f"{value.mean:.1f}"


def _heat_map(factors: Sequence[str], by_cell: dict[str, list[Outcome]], pooled: dict[str, EvaluationResult]) -> str:
    """Success by the first factor down and the second across."""
    down, across = (_levels(factor, by_cell.values()) for factor in factors)
    values = np.full((len(down), len(across)), np.nan)
    for label, same in by_cell.items():
        levels = same[0].cell.levels
        values[down.index(levels[factors[0]]), across.index(levels[factors[1]])] = pooled[label].success.mean
    return heat_map_svg(values, down, across)


def _levels(factor: str, cells: Iterable[Sequence[Outcome]]) -> list[str]:
    return list(dict.fromkeys(same[0].cell.levels[factor] for same in cells))
