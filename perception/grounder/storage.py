"""The grounder's file: both networks in one .safetensors, with the vocabulary and sizes that they belong to."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from perception.grounder.model import Segmenter
from perception.grounder.namer import Namer
from robot_io.errors import UserError
from robot_io.files import replacing

SHIPPED = Path(__file__).parent / "weights"


class Grounder(nn.Module):
    """The two networks side by side."""

    def __init__(self, segmenter: Segmenter, namer: Namer) -> None:
        super().__init__()
        self.segmenter, self.namer = segmenter, namer


def save_weights(grounder: Grounder, path: Path) -> None:
    """Write the file, whole or not at all."""
    namer = grounder.namer
    sizes = {"segmenter": {"width": grounder.segmenter.width},
             "namer": {"colors": namer.colors, "shapes": namer.shapes, "width": namer.width}}  # fmt: skip
    weights = {name: value.contiguous() for name, value in grounder.state_dict().items()}
    with replacing(path) as beside:
        save_file(weights, beside, metadata={"sizes": json.dumps(sizes)})


def load_weights(path: Path) -> Grounder:
    """The networks that `save_weights` wrote.

    Raises:
        UserError: no such file, or one of something else.
    """
    if not path.is_file():
        raise UserError("grounder weights", f"there is no file {path}", "a .safetensors file made by perception.grounder.train",
                        "name shipped weights (tabletop) or train some: see docs/grounder.md")  # fmt: skip
    try:
        with safe_open(path, "pt") as file:
            sizes = json.loads(file.metadata()["sizes"])
            grounder = Grounder(Segmenter(**sizes["segmenter"]), Namer(**sizes["namer"]))
            grounder.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:  # safetensors raises its own kinds
        raise UserError(f"grounder weights {path}", f"do not fit: {str(error)[:200]}", "what perception.grounder.train saves",
                        "train them again with this version: see docs/grounder.md") from error  # fmt: skip
    return grounder
