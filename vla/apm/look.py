"""An episode as a sheet of pictures: what is seen, what the captioner says, what is done."""

from __future__ import annotations

import textwrap
from pathlib import Path

from perception.captioner.captioner import EmbeddedCaptioner
from robot_io.household.describe import describe
from robot_io.household.expert import Expert
from robot_io.household.world import World
from vla.apm.episode import Episode
from vla.apm.run import STAGES, finished, load, read_settings
from vla.apm.summaries import picture, summariser

COLUMNS = 4


def look(layout: int, seed: int, captioner: str, run: Path | None, out: Path) -> Episode:
    """Draw the episode that the expert, or a run's model, makes of a scene; return it.

    Raises:
        UserError: the run has no finished model.
    """
    import torch

    episode = Episode(World(layout, seed))
    says, expert = EmbeddedCaptioner(weights=captioner), Expert(episode.world)
    model = told = None
    if run is not None:
        stages = [stage for stage in STAGES if finished(run, stage)]
        model, settings = load(run, stages[-1] if stages else STAGES[0]), read_settings(run)
        told = summariser(settings.summary, settings.captioner)
    frames = []
    while not episode.done:
        seen = picture(episode)
        said = says.captions(torch.from_numpy(seen).permute(2, 0, 1)[None].float() / 255)[0]
        if model is None:
            skill = expert.decide()
        else:
            words, vectors = told([episode])
            skill = model.act([episode.prompt(words[0])], vectors)[0]
        truth = describe(episode.world.sight())
        done = episode.act(skill)
        expert.watch()
        frames.append((seen, said, truth, f"{skill}{'' if done else ' (failed)'}"))
    _draw(frames, f"“{episode.world.goal.text}”, house {layout + 1}: {'reached' if episode.reached else 'not reached'}", out)
    return episode


def _draw(frames: list[tuple], title: str, out: Path) -> None:
    from matplotlib.figure import Figure

    rows = -(-len(frames) // COLUMNS)
    figure = Figure((3.1 * COLUMNS, 4.1 * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontweight="bold")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for number, (axis, (seen, said, truth, skill)) in enumerate(zip(axes, frames, strict=False), 1):
        axis.imshow(seen)
        axis.set_title(f"{number}. {skill}", fontsize=9, fontweight="bold")
        axis.text(0, 1.0 - 1.04, "\n".join(textwrap.wrap(said, 40)), transform=axis.transAxes, fontsize=8, va="top",
                  color="black" if said == truth else "firebrick")
    figure.savefig(out, dpi=110)
