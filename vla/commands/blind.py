"""`vla blind`: real-robot trials whose judge does not know which policy is driving."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from robot_io import UserError
from vla.commands.shared import Json, named


def blind(
    session: Annotated[Path, typer.Argument(help="File of the session; goes on where it stopped.")],
    policies: Annotated[list[str] | None, typer.Argument(metavar="NAME=POLICY...", help="Two or more: policy folders or ws:// addresses. "
                                                         "Left out when a session goes on.")] = None,
    drive: Annotated[str, typer.Option(help="Command that lets a policy drive once; {policy} stands for it. Its output is hidden.")
                     ] = "vla run {policy}",
    scenes: Annotated[int, typer.Option(min=1, help="How often the objects are put down; every policy drives once in each.")] = 20,
    as_json: Json = False,
) -> None:
    """Let policies drive a real robot in an order that you do not know, and say each time whether it succeeded.

    Answer `y` or `n` (a note may follow), `again` to repeat a spoilt trial, `q` to stop for now. When two policies are clearly apart you are
    told that you may stop. At the end: success with 95 % intervals, and letters.

    Examples:

    - `vla blind today.jsonl raw=ws://127.0.0.1:8000/raw grounded=ws://127.0.0.1:8000/grounded --drive "vla run {policy} --robot ur --seconds 30"`

    - `vla blind today.jsonl` (goes on; or shows the result when all is done)
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from vla.evaluate.blind import BlindSession
    from vla.evaluate.letters import table

    if "{policy}" not in drive:
        raise UserError("--drive", f"'{drive}'", "{policy} in it", "for example: --drive 'vla run {policy}'")
    console = Console(stderr=as_json)
    trials = BlindSession(session, dict(named(policy, "raw=runs/raw/policy") for policy in policies) if policies else None, scenes)
    while (turn := trials.next) is not None:
        if turn.turn == 0 and trials.decided():
            console.print("The two are told apart already: you may stop here (q), or go on.")
        console.print(f"[bold]scene {turn.scene + 1}, turn {turn.turn + 1}[/bold]: put the objects "
                      + ("down" if turn.turn == 0 else "back where they were"))
        if typer.prompt("enter to drive, q to stop", default="", show_default=False, err=as_json).strip() == "q":
            break
        command = [part.replace("{policy}", trials.policies[turn.policy]) for part in shlex.split(drive)]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if ended.returncode:
            console.print(f"the command ended with {ended.returncode}; try it by hand with some other policy, then repeat this turn")
            continue
        answer = _answer(as_json)
        if answer is not None:
            trials.record(turn, *answer)
    standings, pairs = trials.reveal()
    if as_json:
        print(json.dumps({"standings": [asdict(standing) for standing in standings], "pairs": [asdict(pair) for pair in pairs]}))
    else:
        console.print(Markdown(table(standings)))


def _answer(err: bool) -> tuple[bool, str] | None:
    """Success and a note; None to repeat the trial."""
    while True:
        verdict, _, note = typer.prompt("success? y / n / again", err=err).strip().partition(" ")
        if verdict in ("y", "n"):
            return verdict == "y", note.strip()
        if verdict == "again":
            return None
