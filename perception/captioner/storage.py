"""The captioner's file: one .safetensors in half precision, with its vocabulary and sizes in the metadata."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from perception.captioner.model import Captioner
from perception.captioner.words import Words
from robot_io.errors import UserError

SHIPPED = Path(__file__).parent / "weights"


def shipped(name: str) -> Path:
    """The file of shipped weights, or the path that `name` is."""
    path = SHIPPED / f"{name}.safetensors"
    return path if path.exists() else Path(name)


def save_weights(model: Captioner, words: Words, path: Path) -> None:
    """Write the file, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, beside, metadata={"sizes": json.dumps(model.sizes), "words": json.dumps(words.known)})
    os.replace(beside, path)


def load_weights(path: Path) -> tuple[Captioner, Words]:
    """What `save_weights` wrote.

    Raises:
        UserError: no such file, or one of something else.
    """
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "none"
        raise UserError("captioner weights", f"'{path}' is neither shipped nor a file", f"one of {names}, or a .safetensors file",
                        "name shipped weights or train some: see docs/summary.md")  # fmt: skip
    try:
        with safe_open(path, "pt") as file:
            described = file.metadata()
            model, words = Captioner(**json.loads(described["sizes"])), Words(json.loads(described["words"]))
            model.load_state_dict({name: file.get_tensor(name).to(torch.float32) for name in file.keys()})  # noqa: SIM118
    except Exception as error:  # safetensors raises its own kinds
        raise UserError(f"captioner weights {path}", f"do not fit: {str(error)[:200]}", "what perception.captioner.train saves",
                        "train them again with this version: see docs/summary.md") from error  # fmt: skip
    return model, words
