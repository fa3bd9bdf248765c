"""OpenVLA's published weights: where they are, and loading them by name with nothing missing and nothing left over.

    config.json, tokenizer.json                            sizes, and the vocabulary
    model-0000x-of-0000y.safetensors, …index.json          or one model.safetensors
    action_head--150000_checkpoint.pt                      OFT: read by `heads.regression`
    proprio_projector--150000_checkpoint.pt                OFT with state

Names are those of `VLM`'s parameters, but for one: timm's LayerScale weight `gamma` is published as `scale_factor`, because old
transformers renamed every `gamma`. Tensors of the `.pt` files are named `module.…`, as data-parallel training left them; they
exist in no other form, and are read with `weights_only`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from robot_io import UserError
from robot_io.errors import misfits

if TYPE_CHECKING:
    from backbones.openvla.vlm import VLMConfig

PATTERNS = ("*.json", "*.safetensors", "*--*_checkpoint.pt")
TOKENIZER = "tokenizer.json"
INDEX = "model.safetensors.index.json"


def locate(source: str, setting: str, patterns: tuple[str, ...] = PATTERNS) -> Path:
    """The folder of `source`: itself if it is one, else the snapshot of that repository, downloaded unless HF_HUB_OFFLINE.

    Raises:
        UserError: neither a folder nor to be had from the hub; says what to fetch and what to set.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=list(patterns), ignore_patterns=["lora_adapter/*"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"weights '{source}'", f"no such folder, and the hub did not give them ({type(error).__name__})",
            f"a folder with {', '.join(patterns)}",
            f"on a machine with a connection, run `hf download {source} --local-dir DIR`, copy DIR here, and set {setting}=DIR",
        ) from None


def tokenizer_file(tokenizer: str | None, weights: str | None) -> Path:
    """`tokenizer.json` in the folder or repository `tokenizer`, or else in that of the weights."""
    source = tokenizer or weights
    if source is None:
        raise UserError("backbone.tokenizer", "not given, and there are no weights to take it from",
                        "a folder or a hub id with tokenizer.json", "set backbone.tokenizer=openvla/openvla-7b")
    path = locate(source, "backbone.tokenizer", (TOKENIZER,)) / TOKENIZER
    if not path.is_file():
        raise UserError(f"tokenizer {path}", "no such file", "OpenVLA's tokenizer.json",
                        f"run `hf download openvla/openvla-7b tokenizer.json --local-dir {path.parent}`")
    return path


def check_is_openvla(folder: Path, config: VLMConfig) -> None:
    """Compare what shapes do not show: heads and norms of the Llama, and which towers there are.

    Raises:
        UserError: the folder's config.json says otherwise, or the vision towers were modulated by FiLM (OFT+).
    """
    if extra_file(folder, "vision_backbone"):
        raise UserError(f"weights {folder}", "were trained with FiLM (OFT+): their towers are not plain ones",
                        "a checkpoint without vision_backbone--…_checkpoint.pt", "choose one of the LIBERO checkpoints")
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"weights {folder}", "config.json is missing", "the whole repository", f"fetch it into {folder}")
    published = json.loads(path.read_text(encoding="utf-8"))
    text, language = published.get("text_config", {}), config.language
    towers = [config.vision.first.name, config.vision.second.name]
    wrong = [f"{name} is {found}, not {ours}" for name, found, ours in (
        ("heads", text.get("num_attention_heads", 32), language.heads),
        ("epsilon", text.get("rms_norm_eps", 1e-6), language.epsilon),
        ("timm_model_ids", [name.split(".")[0] for name in published.get("timm_model_ids", towers)], towers),
        ("image_sizes", published.get("image_sizes", [config.vision.size] * 2), [config.vision.size] * 2),
    ) if found != ours]
    if wrong:
        raise UserError(f"weights {folder}", f"{path.name}: {'; '.join(wrong)}", "the configuration of the backbone",
                        "set backbone.language and backbone.vision to match, or name other weights")


def our_name(published: str) -> str:
    return re.sub(r"\.(ls[12])\.scale_factor$", r".\1.gamma", published)


def extra_file(folder: Path, stem: str) -> Path | None:
    """The one file `STEM--STEPS_checkpoint.pt` of an OFT checkpoint, None if there is none."""
    found = sorted(folder.glob(f"{stem}--*_checkpoint.pt"))
    if len(found) > 1:
        raise UserError(f"weights {folder}", f"several of {stem}: {', '.join(file.name for file in found)}", "one",
                        "move away all but the one you mean")
    return found[0] if found else None


def load_extra(module: nn.Module, file: Path, rename: Mapping[str, str] | None = None) -> None:
    """Copy a `.pt` file of an OFT checkpoint into `module`.

    Args:
        rename: replacements of parts of names, published to ours, after the leading `module.` is gone.

    Raises:
        UserError: not a plain table of tensors, or a tensor missing, left over, or of another shape.
    """
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of as many kinds as there are ways to damage the file
        raise UserError(f"weights {file}", f"cannot be read ({type(error).__name__})", "a table of tensors saved by torch",
                        "fetch the file again") from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"weights {file}", f"holds a {type(tensors).__name__} of other things", "a table of tensors",
                        "fetch the file again")
    named = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("module.")
        for part, ours in (rename or {}).items():
            name = name.replace(part, ours)
        named[name] = tensor
    load_named(module, set(named), named.items(), str(file))


def load_named(module: nn.Module, names: set[str], tensors: Iterable[tuple[str, Tensor]], where: str) -> None:
    """Copy `tensors` into the parameters of the same `names`, which are compared before any tensor is read."""
    own = dict(module.state_dict())
    if wrong := misfits(dict.fromkeys(own), dict.fromkeys(names)):
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(f"weights {where}", "; ".join(sorted(wrong)[:5]) + more,
                        "exactly the tensors of the configured model", "use the configuration the weights were trained with")
    for name, tensor in tensors:
        if tensor.shape != own[name].shape:
            raise UserError(f"weights {where}", f"'{name}' is {tuple(tensor.shape)}", f"{tuple(own[name].shape)}",
                            "use the configuration the weights were trained with")
        own[name].copy_(tensor)


def _shards(folder: Path) -> dict[Path, list[str] | None]:
    """Files, and which names to take of each (None for all)."""
    if (folder / INDEX).is_file():
        shards: dict[Path, list[str] | None] = {}
        for name, file in json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].items():
            shards.setdefault(folder / file, []).append(name)
        return shards
    return {folder / "model.safetensors": None}


def names(folder: Path) -> set[str]:
    """All published names, as ours. Every shard is opened, and its own list believed: an index may be of another upload."""
    found = set()
    for file, listed in _shards(folder).items():
        with _open(file) as shard:
            held = set(shard.keys())
        if listed is not None and held != set(listed):
            odd = min(held ^ set(listed))
            raise UserError(f"weights {file}", f"'{odd}' is {'not listed for it' if odd in held else 'listed, but not in it'}",
                            f"the tensors that {INDEX} lists", "fetch index and shards again, from one upload")
        found |= held
    return {our_name(name) for name in found}


def tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """All published tensors by our name, one at a time."""
    for file in _shards(folder):
        with _open(file) as shard:
            for name in shard.keys():  # noqa: SIM118 (a shard is no dictionary)
                yield our_name(name), shard.get_tensor(name)


def _open(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="pt")
    except FileNotFoundError:
        raise UserError(f"weights {file}", "no such file", f"it, or {INDEX} and the shards it lists",
                        f"fetch it from the repository of the weights into {file.parent}") from None
    except SafetensorError as error:
        raise UserError(f"weights {file}", f"damaged ({error})", "a whole safetensors file", "fetch it again") from None

