"""Published models behind one door: from a local folder or a hub id, whole and of the right kind, or one clear error.

Hub ids go through huggingface_hub, which keeps a cache and obeys `HF_HUB_OFFLINE`. Only safetensors are read, and no code
that comes with a checkpoint is ever run. `docs/object_centric.md` lists the files each system wants.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robot_io import UserError
from robot_io.errors import misfits


class Published(nn.Module):
    """Holds a published model that the recipe names, so that a policy does not carry a copy of its weights.

    It moves to a device like any module, but its `state_dict` is empty.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)

    def train(self, mode: bool = True) -> Published:
        """Always in evaluation mode."""
        return super().train(False)

    def state_dict(self, *args: Any, destination: dict[str, Tensor] | None = None, **kwargs: Any) -> dict[str, Tensor]:
        return {} if destination is None else destination


def load_model(cls: Any, source: str, thing: str, example: str, also: tuple[str, ...] = ()) -> nn.Module:
    """A transformers model by folder or hub id.

    Args:
        cls: the transformers class.
        source: a folder with `config.json` and `model.safetensors`, or a hub id.
        thing: what the model is for, to name it in errors.
        example: the hub id of a checkpoint that fits.
        also: other model types whose checkpoints hold this model.

    Raises:
        UserError: nothing there, a file missing, another model's checkpoint, weights missing or of another shape.
    """
    require(source, thing, example, (("config.json",), ("model.safetensors", "model.safetensors.index.json")))
    accepted = getattr(getattr(cls, "config_class", None), "model_type", None)
    found = _model_type(source)
    if accepted is not None and found not in (None, accepted, *also):
        raise UserError(f"{thing} '{source}'", f"it is a '{found}' checkpoint", f"'{accepted}'", fetch(source, example))
    try:
        model, report = cls.from_pretrained(source, output_loading_info=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{thing} '{source}'", f"cannot be loaded ({_first_line(error)})", "a folder or a hub id that holds it",
                        fetch(source, example)) from error
    wrong = [*sorted(report.get("missing_keys", ())), *(str(key) for key in report.get("mismatched_keys", ()))]
    if wrong:
        raise UserError(f"{thing} '{source}'", f"{len(wrong)} tensors are missing or of another shape, such as '{wrong[0]}'",
                        "the weights that belong to its config.json", fetch(source, example))
    return model


def load_processor(cls: Any, source: str, thing: str, example: str, files: tuple[tuple[str, ...], ...], **options: Any) -> Any:
    """A transformers processor by folder or hub id; `files` as for `require`."""
    require(source, thing, example, files)
    try:
        return cls.from_pretrained(source, **options)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise UserError(f"{thing} '{source}'", f"its processor cannot be loaded ({_first_line(error)})",
                        "the processor's files beside the weights", fetch(source, example)) from error


def require(source: str, thing: str, example: str, files: tuple[tuple[str, ...], ...]) -> None:
    """If `source` is a folder, it must hold one file out of every tuple. A hub id is left to the hub.

    Raises:
        UserError: names the file to fetch.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        for names in files:
            if not any((folder / name).is_file() for name in names):
                raise UserError(f"{thing} '{source}'", f"it has no {names[0]}", " or ".join(names), fetch(source, example, names[0]))
    elif source.startswith(("/", ".", "~")) or source.count("/") != 1:
        raise UserError(f"{thing} '{source}'", "there is no such folder", "a folder or a hub id (owner/name)", fetch(source, example))


def require_file(path: str | Path, thing: str, url: str) -> Path:
    """A single published file, such as a .pth checkpoint.

    Raises:
        UserError: it is not there; names where to get it and where to put it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{thing} '{path}'", "there is no such file", f"the file {url.rsplit('/', 1)[-1]}",
                        f"fetch {url} and put it at {path}")
    return path


def load_pth(path: Path, thing: str, url: str) -> dict[str, Any]:
    """Tensors of a published .pth file, without running what else a pickle may hold.

    Raises:
        UserError: it is not such a file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise UserError(f"{thing} '{path}'", f"cannot be read as weights ({_first_line(error)})",
                        f"the file {url.rsplit('/', 1)[-1]}", f"fetch {url} again") from error


def copy_weights(model: nn.Module, weights: dict[str, Tensor], thing: str, remedy: str, ignored: tuple[str, ...] = ()) -> None:
    """Fill a model from a checkpoint: every parameter once, of the right shape. Buffers that are computed may be missing.

    Raises:
        UserError: a tensor is missing, left over or differently shaped.
    """
    expected = model.state_dict()
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    wanted = {name: tuple(tensor.shape) for name, tensor in expected.items() if name in parameters or name in weights}
    found = {name: tuple(weights[name].shape) if name in expected else () for name in weights
             if name in expected or not name.endswith(ignored)}
    if wrong := misfits(wanted, found):
        raise UserError(thing, f"{len(wrong)} tensors do not fit: {'; '.join(wrong[:3])}", "the weights of this architecture", remedy)
    model.load_state_dict(weights, strict=False)


def fetch(source: str, example: str, file: str = "") -> str:
    """The remedy: what to download, and to where."""
    local = Path(source).expanduser()
    folder = source if local.is_dir() or source.startswith(("/", ".", "~")) else f"models/{example.rsplit('/', 1)[-1]}"
    one = f" {file}" if file else ""
    return f"on a machine with internet run: hf download {example}{one} --local-dir {folder}, and give that folder"


def _model_type(source: str) -> str | None:
    config = Path(source).expanduser() / "config.json"
    if not config.is_file():
        return None
    try:
        return json.loads(config.read_text()).get("model_type")
    except json.JSONDecodeError:
        raise UserError(f"checkpoint '{source}'", "its config.json is not JSON", "a model's configuration", "fetch it again") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n") or [""])[0][:200] or type(error).__name__
