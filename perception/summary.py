"""Scene summarisation: a captioner puts what a camera sees into words, for the policy to read beside the pictures or instead of them.

After SUM (Qiu et al., arXiv 2306.05696, sec. 3): there a text-to-action model sees nothing but the summary. Here the summary is one more
part of the percept (`Percept.text`), which every backbone reads behind the instruction, so it goes with any other front-end; and
`pictures: hidden` blanks the pictures, so that the policy knows the scene from the words alone (its state it still knows, and tokens
if another front-end makes some).

Captioners are chosen by `kind` (`perception.captioning`). Frozen: training captions every frame once and keeps the words.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field

from perception.captioning import CAPTIONERS
from perception.grounding.nested import component
from perception.percept import Batch, FrontEnd, Percept
from robot_io.registry import ComponentConfig
from robot_io.specs import missing_camera

BLANK = 0.25
"""A picture of nothing: dark grey, because some processors take all-zero pixels for padding."""
MEMORY = "summary"


class Summary(FrontEnd):
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["summary"] = "summary"
        captioner: component(CAPTIONERS) = Field({"kind": "template"}, validate_default=True, description="who describes the scene")
        camera: str | None = Field(None, description="whose view is described; null: the first")
        pictures: Literal["beside", "hidden"] = Field("beside", description="the policy sees the text beside its pictures, or only the text")
        every: int = Field(1, ge=1, description="looks of an episode from one description to the next; in between the last one stands")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.captioner = CAPTIONERS.load(config.captioner.kind)(config.captioner)
        self.needs_depth = bool(getattr(self.captioner, "needs_depth", False))
        self.oracle = bool(getattr(self.captioner, "oracle", False))

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        camera = self.config.camera or observations.cameras[0]
        if camera not in observations.cameras:
            raise missing_camera(camera, observations.cameras, "this policy's views")
        said = self._describe(observations, percept, camera)
        text = [f"{before} {new}".strip() for before, new in zip(percept.text, said, strict=True)] if percept.text else said
        seen = percept.replace(text=text, evidence={**percept.evidence, "summary/captions": said})
        if self.config.pictures == "beside" or percept.images is None:
            return seen
        return seen.replace(images=torch.full_like(percept.images, BLANK), features=None)

    def _describe(self, batch: Batch, percept: Percept, camera: str) -> list[str]:
        if batch.memory is None:
            return self.captioner.describe(batch, percept, camera)
        episodes = [_episode(memory, instruction) for memory, instruction in zip(batch.memory, batch.instructions, strict=True)]
        due = [episode["looks"] % self.config.every == 0 for episode in episodes]
        new = self.captioner.describe(batch, percept, camera) if any(due) else [""] * len(batch)
        for episode, now, said in zip(episodes, due, new, strict=True):
            episode["looks"] += 1
            episode["text"] = said if now else episode["text"]
        return [episode["text"] for episode in episodes]


def _episode(memory: dict[str, Any], instruction: str) -> dict[str, Any]:
    """What is remembered of the episode; anew where the instruction is another."""
    if memory.get(MEMORY, {}).get("instruction") != instruction:
        memory[MEMORY] = {"instruction": instruction, "looks": 0, "text": ""}
    return memory[MEMORY]
