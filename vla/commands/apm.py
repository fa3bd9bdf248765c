"""`vla apm`: the text-to-action model of SUM and APM, in the household."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from robot_io import UserError
from robot_io.errors import nearest
from vla.commands.shared import Json, Overrides, tell

apm = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="""A language model that acts from words alone, in a small household.

A captioner (SUM) puts what the robot sees into words; a text-to-action model (APM) reads the goal and those words and says one executable skill,
`[grab] <apple>`. It learns by imitating a scripted expert, then by REINFORCE on whether the goal was reached. After arXiv 2306.05696.

Begin with `vla apm look`, then `vla apm train runs/apm`, then `vla apm evaluate runs/apm`.""")


@apm.command()
def look(
    layout: Annotated[int, typer.Option(min=0, max=6, help="Which of the seven houses; the last two are never trained on.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Which episode; tests begin at 20000.")] = 20_000,
    captioner: Annotated[str, typer.Option(help="Weights of the embedded captioner: household, tabletop, or a file.")] = "household",
    run: Annotated[Path | None, typer.Option(help="Let this run's model act, instead of the expert.")] = None,
    out: Annotated[Path, typer.Option(help="The sheet: .png, .svg or .pdf.")] = Path("household.png"),
    as_json: Json = False,
) -> None:
    """Draw an episode: every picture, what the captioner says of it, and what is done next.

    Examples:

    - `vla apm look --layout 2 --seed 20003`

    - `vla apm look --run runs/apm --out acts.png`
    """
    from vla.apm.look import look as draw

    episode = draw(layout, seed, captioner, run, out)
    found = {"sheet": str(out), "goal": episode.world.goal.text, "reached": episode.reached, "steps": len(episode.actions)}
    tell(found, as_json, f"{out}: {episode.world.goal.text}; {'reached' if episode.reached else 'not reached'} in {len(episode.actions)} steps")


@apm.command()
def train(
    run: Annotated[Path, typer.Argument(help="Folder of the run; goes on where it stopped.")],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Teach a model: imitation of the expert, then REINFORCE (`reinforce.updates=0` leaves it out).

    What it reads while it learns is `summary`: `oracle` (a perfect description), `image` (the captioner's words), `pooled` (the captioner's
    cells as one vector, no words), `none` (the goal and what was done, blind). `model.checkpoint` names a real language model.

    Examples:

    - `vla apm train runs/apm`

    - `vla apm train runs/blind summary=none reinforce.updates=0`

    - `vla apm train runs/bart model.checkpoint=models/bart-base imitation.learning_rate=5e-5 imitation.batch_size=8`
    """
    from vla.apm.imitate import imitate
    from vla.apm.reinforce import reinforce
    from vla.apm.run import claim, finished, read_settings
    from vla.apm.settings import load_settings

    begun = (run / "settings.yaml").exists() and not overrides
    settings = read_settings(run) if begun else load_settings(overrides=overrides)
    claim(settings, run)
    stages = {"imitation": imitate} | ({"reinforce": reinforce} if settings.reinforce.updates else {})
    for stage, teach in stages.items():
        if not finished(run, stage):
            teach(settings, run, lambda line: print(line, file=sys.stderr, flush=True))
    tell({"run": str(run), "stages": list(stages), "settings": settings.hash}, as_json, f"{run}: {', '.join(stages)}. Next: vla apm evaluate {run}")


@apm.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs of `vla apm train`.")],
    summaries: Annotated[list[str] | None, typer.Option("--summary", help="What a model taught with words is told of the scene: oracle, image, none; "
                                                        "as it was taught if left out. May be repeated.")] = None,
    captioner: Annotated[str | None, typer.Option(help="Weights of the embedded captioner, for --summary image.")] = None,
    stage: Annotated[str, typer.Option(help="imitation, reinforce, or all that are finished.")] = "all",
    says: Annotated[list[str] | None, typer.Option(help="What a model does: likeliest (the default), or drawn, as in REINFORCE. May be "
                                                   "repeated.")] = None,
    episodes: Annotated[int, typer.Option(min=7, help="Episodes, the seven houses in turn.")] = 210,
    split: Annotated[str, typer.Option(help="test, or validation to choose between runs.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Rows of the table. The first RUN/apm.json if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Goal success, executability, agreement with the expert, entropy, and the majority class beside them, with 95 % intervals.

    What is evaluated already (RUN/evaluations) is not done again.

    Examples:

    - `vla apm evaluate runs/apm`

    - `vla apm evaluate runs/apm runs/blind --summary oracle --summary image`

    - `vla apm evaluate runs/apm --says likeliest --says drawn`

    - `vla apm evaluate runs/apm --summary image --captioner tabletop` (a captioner that never saw a household)
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from vla.apm.evaluate import Says, table
    from vla.apm.run import STAGES
    from vla.results import markdown, save_rows

    if stage not in ("all", *STAGES):
        raise UserError(f"stage '{stage}'", "not known", "imitation, reinforce or all", nearest(stage, ("all", *STAGES)))
    for way in says or ():
        if way not in get_args(Says):
            raise UserError(f"--says {way}", "not known", "likeliest or drawn", nearest(way, get_args(Says)))
    rows = table(runs, stage, summaries or (), captioner, episodes, split, says or ("likeliest",))
    save_rows(out or runs[0] / "apm.json", rows)
    if as_json:
        print(json.dumps(rows))
    else:
        shown = [row for row in rows if row["cell"]["layouts"] in ("all", "seen", "unseen")]
        Console().print(Markdown(markdown(shown)))
