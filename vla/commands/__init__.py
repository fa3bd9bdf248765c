"""Commands with a file of their own. Each is as thin as those in `vla.cli`, and imports what it needs when it is called."""

from __future__ import annotations

import typer

from vla.commands.apm import apm
from vla.commands.blind import blind
from vla.commands.compare import compare, trials
from vla.commands.distill import distill
from vla.commands.doctor import doctor
from vla.commands.precompute import precompute
from vla.commands.quantize import quantize
from vla.commands.rl import rl
from vla.commands.run import run
from vla.commands.serve import serve
from vla.commands.values import values


def add_commands(app: typer.Typer) -> None:
    for command in (blind, compare, distill, doctor, precompute, quantize, rl, run, serve, trials, values):
        app.command()(command)
    app.add_typer(apm, name="apm")
