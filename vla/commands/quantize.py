"""`vla quantize`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vla.commands.shared import Json, named, tell


def quantize(
    run: Annotated[Path, typer.Argument(help="A run or a policy folder.")],
    plan: Annotated[list[str] | None, typer.Argument(metavar="[LAYERS=FORMAT]...", help="trunk, vision, embeddings, head, or a block "
                                                     "(trunk.layers.3); bf16, int8, int8_dynamic, int8_outliers, int4, nf4, fp4 or full. "
                                                     "int8 everywhere if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the small policy; RUN/quantized/policy if left out.")] = None,
    keep_lora: Annotated[bool, typer.Option("--keep-lora", help="Leave adapters beside the quantised weights instead of merging them.")] = False,
    budget_mb: Annotated[float | None, typer.Option(help="Choose formats block by block: all layers in so many MB.")] = None,
    budget_ms: Annotated[float | None, typer.Option(help="The same: in so many CPU ms for one observation.")] = None,
    formats: Annotated[str, typer.Option(help="What a budget may choose among, and the page compares.")] = "bf16,int8,int4,nf4",
    report: Annotated[bool, typer.Option("--report", help="Measure, and write quantisation.html and .md beside the policy.")] = False,
    trials: Annotated[int, typer.Option(min=0, help="Test scenes of the page's closed loop, for both policies.")] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Held-out frames on which actions are compared.")] = 64,
    data: Annotated[Path | None, typer.Option(help="Demonstrations, if not where the recipe says.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the closed loop.")] = 2,
    as_json: Json = False,
) -> None:
    """Make a policy smaller for serving: its layers in fewer bits, as told or within a budget. No training.

    Examples:

    - `vla quantize runs/pick` (int8)

    - `vla quantize runs/pick trunk=nf4 vision=int8 head=bf16 --report --trials 100`

    - `vla quantize runs/pick --budget-mb 3 --formats int8,int4,nf4 --report`
    """
    from vla.serve.shrink import Wish, shrink

    wish = Wish(dict(named(each, "trunk=nf4") for each in plan or ()), budget_mb, budget_ms, tuple(formats.split(",")), not keep_lora,
                report or trials > 0, trials, frames, data)
    target = out or (run.parent if run.name == "policy" else run) / "quantized" / "policy"
    found = shrink(run, target, wish, command=shlex.join(["vla", *sys.argv[1:]]), workers=workers)
    page = f"; {found['report']}" if "report" in found else ""
    if "warning" in found:
        print(f"Slow here: {found['warning']}.", file=sys.stderr)
    tell(found, as_json, f"{target}: {found['memory_mb']:.2f} MB instead of {found['full_mb']:.2f}{page}. Next: vla evaluate {target}")
