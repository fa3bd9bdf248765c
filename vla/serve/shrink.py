"""`vla quantize`: open a policy, choose formats (as told, or by a budget), write the small policy, and measure it if asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_io import UserError
from vla.evaluate.evaluate import evaluate
from vla.evaluate.seeds import seeds
from vla.evaluate.statistics import compare
from vla.files import write_json
from vla.policy import Policy
from vla.serve import fidelity
from vla.serve.quantize import layer_bytes, layers, memory, merge_adapters, quantize_policy, resolve, slow_on
from vla.serve.quantize_report import Page, Variant, write_page


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        plan: formats by group or block; empty for `int8` everywhere, or for the budget to decide.
        budget_mb, budget_ms: what all layers together may take: the search then chooses among `formats`.
        merge: LoRA becomes part of the weights.
        report: measure and write the page.
        trials: scenes of the closed loop on the page; 0 for none.
        frames: held-out frames.
        data: where they are, if not where the recipe says.
    """

    plan: Mapping[str, str]
    budget_mb: float | None = None
    budget_ms: float | None = None
    formats: Sequence[str] = fidelity.BLOCK_FORMATS
    merge: bool = True
    report: bool = False
    trials: int = 0
    frames: int = 64
    data: Path | None = None


def shrink(folder: Path, out: Path, wish: Wish, *, command: str, workers: int = 1) -> dict[str, Any]:
    """Write the quantised policy to `out`, and the page beside it; returns what `--json` prints.

    Raises:
        UserError: a plan or a budget that cannot be had, no held-out frames where they are needed.
    """
    source = folder / "policy" if (folder / "policy").is_dir() else folder
    if (wish.budget_mb is not None) + (wish.budget_ms is not None) + bool(wish.plan) > 1:
        raise UserError("what to quantise", "told in two ways", "formats by group, or one budget", "leave one out")
    searching = wish.budget_mb is not None or wish.budget_ms is not None
    policy = Policy.load(source)
    if wish.merge:
        merge_adapters(policy)
    batches = fidelity.held_out(policy, wish.frames, wish.data) if searching or wish.report else []
    blocks = list(fidelity.options(policy, batches, wish.formats)) if batches else []
    plan = dict(wish.plan) or {layer.group: "int8" for layer in layers(policy) if "int8" in layer.formats}
    if searching:
        cost = "bytes" if wish.budget_mb is not None else "milliseconds"
        plan = fidelity.search(blocks, 1e6 * wish.budget_mb if wish.budget_mb is not None else wish.budget_ms or 0.0, cost)
    of_layer = {layer.name: layer.block for layer in layers(policy)}
    formats = _summed({of_layer[name]: how for name, how in resolve(policy, plan).items()}, set(of_layer.values()))
    groups = {layer.name: layer.group for layer in layers(policy)}
    full = Policy.load(source) if wish.report else policy
    before = memory(full)
    sizes = _sizes(policy, groups)
    quantize_policy(policy, plan, merge=wish.merge)
    policy.save(out)
    found: dict[str, Any] = {"policy": str(out), "memory_mb": memory(policy) / 1e6, "full_mb": before / 1e6, "formats": formats}
    if warning := slow_on(policy):
        found["warning"] = warning
    if wish.report:
        found |= _report(source, out, wish, full, policy, batches, blocks, (sizes, _sizes(policy, groups)), formats, command, workers)
    return found


def _report(source: Path, out: Path, wish: Wish, full: Policy, small: Policy, batches: list, blocks: list[fidelity.Option],
            sizes: tuple[dict[str, int], dict[str, int]], formats: dict[str, str], command: str, workers: int) -> dict[str, Any]:
    """Measure both policies and write the page."""
    theirs, ours = fidelity.chunks(full, batches), fidelity.chunks(small, batches)
    times = fidelity.latency({"full": full, "small": small}, batches[0])
    results = {}
    if wish.trials:
        for name, folder in (("full", source), ("small", out)):
            results[name] = evaluate(folder, full.recipe.robot, seeds("test", wish.trials), out=out.parent / f"{out.name}-{name}.jsonl",
                                     workers=workers)
    success = {name: result.success for name, result in results.items()}
    comparison = compare(results["full"].by_seed(), results["small"].by_seed()) if results else None
    error = fidelity.mean_error(theirs, ours)
    write_page(out.parent, Page(
        title=f"{full.recipe.name}, quantised", spec=full.spec.action, frames=len(ours),
        full=Variant("as trained", sizes[0], memory(full) - sum(sizes[0].values()), times["full"], success.get("full")),
        small=Variant("quantised", sizes[1], memory(small) - sum(sizes[1].values()), times["small"], success.get("small")),
        error=error, span=np.abs(theirs).mean((0, 1)), relative=fidelity.relative_error(theirs, ours, full.spec.action),
        formats=formats, blocks=blocks, comparison=comparison, commands=(command,)))
    found = {"report": str(out.parent / "quantisation.html"), "latency_ms": {name: vars(value) for name, value in times.items()},
             "error": dict(zip(full.spec.action.names, error.tolist(), strict=True)),
             "success": {name: rate.to_dict() for name, rate in success.items()}}
    write_json(out.parent / "quantisation.json", found | {"blocks": [vars(option) for option in blocks]})
    return found


def _summed(formats: Mapping[str, str], blocks: set[str]) -> dict[str, str]:
    """Formats by block; by group where all blocks of one have the same."""
    found: dict[str, str] = {}
    for group in dict.fromkeys(block.partition(".")[0] for block in formats):
        inside = [block for block in blocks if block.partition(".")[0] == group]
        if len({formats.get(block) for block in inside}) == 1:
            found[group] = formats[inside[0]]
        else:
            found |= {block: how for block, how in formats.items() if block in inside}
    return found


def _sizes(policy: Policy, groups: Mapping[str, str]) -> dict[str, int]:
    """Bytes of the layers that can be quantised, by group."""
    found: dict[str, int] = {}
    for name, group in groups.items():
        found[group] = found.get(group, 0) + layer_bytes(policy.get_submodule(name))
    return found
