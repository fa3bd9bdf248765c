"""`vla doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from vla.commands.shared import Json, Overrides

STYLES = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "bold red")}


def doctor(
    overrides: Overrides = None,
    data: Annotated[Path | None, typer.Option(help="A data set.")] = None,
    policy: Annotated[str | None, typer.Option(help="A policy folder or a ws:// address.")] = None,
    robot: Annotated[str | None, typer.Option(help="One of `vla list robots`; its options as robot.key=value.")] = None,
    as_json: Json = False,
) -> None:
    """Hold a data set, a policy and a robot against each other before anything moves. Exit code 1 if something is wrong.

    Examples:

    - `vla doctor --data data/pick`

    - `vla doctor --data data/pick --policy runs/pick/policy --robot tabletop`

    - `vla doctor --policy ws://gpu-box:8000 --robot ur robot.host=192.168.1.2 robot.cameras='{front: {kind: realsense}}'`
    """
    from vla.commands.run import robot_config
    from vla.doctor import examine

    config = None if robot is None else robot_config(robot, overrides)
    findings = examine(data, policy, config)
    worst = {level: sum(finding.level == level for finding in findings) for level in STYLES}
    if as_json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings], **worst}))
    else:
        console = Console()
        for finding in findings:
            mark, style = STYLES[finding.level]
            remedy = f"\n    → {finding.remedy}" if finding.remedy else ""
            console.print(Text.assemble((f"{mark} {finding.check}: ", style), finding.text, (remedy, "dim")))
        console.print(Text(f"{worst['error']} wrong, {worst['warning']} to look at, {worst['ok']} in order", style="bold"))
    raise typer.Exit(1 if worst["error"] else 0)
