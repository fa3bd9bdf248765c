"""VGGT from a file: the published checkpoint, or what `perception.vggt.train` saved. Weights are matched by name, and nothing is left over.

    load_vggt("tabletop")                  the small network shipped here
    load_vggt("checkpoints/VGGT-1B")       a folder with `model.safetensors` of facebook/VGGT-1B
    load_vggt("facebook/VGGT-1B")          the hub, which keeps a cache and obeys `HF_HUB_OFFLINE`

A file of ours says its sizes in its metadata; the published one has the published sizes. It is 5 GB, under Meta's own licence
(`facebook/VGGT-1B-Commercial` allows commercial use), and has the same names and shapes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from perception.grounding.published import fetch, require
from perception.vggt.dinov2 import DinoV2
from perception.vggt.model import UNUSED, Sizes, Vggt
from robot_io import UserError
from robot_io.errors import misfits

SHIPPED = Path(__file__).parent / "weights"
PUBLISHED = "facebook/VGGT-1B"
FILE = "model.safetensors"


def load_vggt(source: str, thing: str = "vggt") -> Vggt:
    """Raises `UserError`: no such weights, or a tensor missing, left over or of another shape."""
    return _load(source, thing, "geometry", Vggt)


def load_eye(source: str, thing: str = "eye") -> DinoV2:
    """The small eye shipped here, or one that `perception.vggt.train` saved. Raises `UserError` as `load_vggt`."""
    return _load(source, thing, "eye", Sizes.eye)


def save_weights(model: Vggt | DinoV2, sizes: Sizes, path: Path) -> None:
    """Write the file, with the sizes it belongs to, whole or not at all."""
    beside = path.with_name(f".{path.name}")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, beside, metadata={"sizes": json.dumps(asdict(sizes))})
    beside.replace(path)


def shipped(source: str, part: str) -> Path | None:
    """The file of weights shipped here under a name."""
    path = SHIPPED / f"{source}_{part}.safetensors"
    return path if "/" not in source and path.is_file() else None


def _load(source: str, thing: str, part: str, make: Callable[[Sizes], nn.Module]) -> Any:
    """`make(sizes)`, filled from the file that `source` names."""
    path = shipped(source, part) or _locate(source, thing)
    try:
        with safe_open(path, "pt") as file:
            sizes = json.loads((file.metadata() or {}).get("sizes", "{}"))
            names = [name for name in file.keys() if not name.startswith(UNUSED)]  # noqa: SIM118
            found = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            with torch.device("meta"):
                model = make(Sizes(**{name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}))
            expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
            if wrong := misfits(expected, found):
                raise UserError(f"{thing} '{source}'", f"{len(wrong)} tensors do not fit: {'; '.join(wrong[:3])}",
                                "the weights of this architecture", fetch(source, PUBLISHED, FILE))
            model.load_state_dict({name: file.get_tensor(name) for name in names}, assign=True)
    except (SafetensorError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{thing} '{source}'", f"cannot be read ({str(error)[:200]})", "a safetensors file of VGGT",
                        fetch(source, PUBLISHED, FILE)) from error
    return model.eval().requires_grad_(False)


def _locate(source: str, thing: str) -> Path:
    """The file itself, or the one in a folder, or in the hub's cache."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    require(source, thing, PUBLISHED, ((FILE,),))
    if path.is_dir():
        return path / FILE
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source, FILE))
    except (OSError, ValueError) as error:
        raise UserError(f"{thing} '{source}'", f"cannot be fetched from the hub ({str(error).splitlines()[0][:200]})",
                        "weights shipped here, a folder or a hub id", fetch(source, PUBLISHED, FILE)) from error
