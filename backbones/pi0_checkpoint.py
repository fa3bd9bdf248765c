"""π0's published weights (arXiv 2410.24164; `lerobot/pi0_base`): the sizes of the model, and each half's weights by name.

transformers' `PI0ForConditionalGeneration` is one model; here its VLM is a backbone (`backbones.pi0`) and its action expert a
head (`heads.pi0`). Each half fills itself from the whole checkpoint, and refuses it if *any* tensor of the whole is missing, left
over or of another shape. Two layouts are read: transformers' own, and LeRobot's port of openpi, whose names transformers maps.

    config.json         sizes, of either layout (`model_type: pi0`, or LeRobot's `type: pi0`)
    model*.safetensors  all weights. LeRobot's normalisation files are not read: statistics come with the policy's own data
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PI0Config, PI0ForConditionalGeneration
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from backbones.openvla.weights import locate
from robot_io import UserError
from robot_io.errors import misfits

PUBLISHED = "lerobot/pi0_base"
PATTERNS = ("config.json", "tokenizer.json", "model*.safetensors")
NEVER_READ = "model.dit.embed_tokens.weight"
"""The expert's word embeddings: 263 M parameters that no forward pass touches, since actions come as embeddings. Not loaded."""
VARIANTS = {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m"}
"""LeRobot's names of the published sizes."""
DECISIVE = frozenset({
    "max_state_dim", "max_action_dim", "min_period", "max_period", "time_sampling_beta_alpha", "time_sampling_beta_beta",
    "time_sampling_scale", "time_sampling_offset", "num_attention_heads", "num_key_value_heads", "head_dim", "num_hidden_layers",
    "hidden_size", "image_size", "patch_size", "rms_norm_eps", "layer_norm_eps", "rope_theta",
})  # fmt: skip
"""What must be equal between a checkpoint's config.json and ours, most of which no tensor's shape shows."""


def architecture(fields: Mapping[str, Any], **more: Any) -> PI0Config:
    """The published sizes, but for `fields` (of transformers' `PI0Config`, nested as in its config.json).

    Raises:
        UserError: a field that `PI0Config` does not take.
    """
    unknown = set(fields) - set(PI0Config.__annotations__)
    try:
        if unknown:
            raise ValueError(f"it has no {', '.join(sorted(unknown))}")
        return PI0Config(**fields, **more)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError("π0's architecture", str(error).strip().split("\n")[0], "fields of transformers' PI0Config",
                        "correct `architecture`, or leave it out for the published sizes") from None


def load(checkpoint: str, sizes: PI0Config, parts: Mapping[str, nn.Module], setting: str) -> None:
    """Copy published weights into `parts`.

    Args:
        checkpoint: a local folder or a hub id.
        parts: by the prefix of their names in `PI0ForConditionalGeneration` (`model.vlm`).
        setting: what the user sets to name another folder, for the error.

    Raises:
        UserError: nothing there, other sizes, or a tensor that is missing, left over or of another shape.
    """
    folder = locate(checkpoint, setting, PATTERNS)
    check_sizes(folder, sizes)
    with torch.device("meta"):
        whole = PI0ForConditionalGeneration(sizes)
    expected = {name: tuple(tensor.shape) for name, tensor in whole.state_dict().items() if name != NEVER_READ}
    found = {ours: (file, key, shape) for ours, file, key, shape in _published(folder, whole) if ours != NEVER_READ}
    shapes, keys = {name: shape for name, (_, _, shape) in found.items()}, {name: key for name, (_, key, _) in found.items()}
    if wrong := misfits(expected, shapes, keys):
        raise UserError(f"π0 weights {folder}", "; ".join(sorted(wrong)[:5]) + (" …" if len(wrong) > 5 else ""),
                        "exactly the weights of a π0", f"fetch the whole of {PUBLISHED}, or correct `architecture`")
    for prefix, part in parts.items():
        with torch.no_grad():
            for name, own in part.state_dict().items():
                file, key, _ = found[f"{prefix}.{name}"]
                with safe_open(file, framework="pt") as tensors:
                    own.copy_(tensors.get_tensor(key))


def check_sizes(folder: Path, ours: PI0Config) -> None:
    """Compare with the folder's config.json what shapes do not show.

    Raises:
        UserError: no config.json, one of another model (π0.5, π0-FAST), or other sizes.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"π0 weights {folder}", "config.json is missing", f"the whole of {PUBLISHED}", f"fetch it into {folder}")
    fields = json.loads(path.read_text(encoding="utf-8"))
    kind = fields.get("model_type", fields.get("type"))
    if kind != "pi0":
        raise UserError(f"π0 weights {folder}", f"config.json says that it is '{kind}'", "'pi0'", "name a checkpoint of π0")
    theirs = PI0Config(**{name: value for name, value in fields.items() if name in PI0Config.__annotations__})
    wrong = [f"{name} is {fields[name]}, not {variant}" for name, variant in VARIANTS.items()
             if fields.get(name, variant) != variant]
    expected = dict(_leaves(ours.to_dict()))
    wrong += [f"{name} is {value}, not {expected.get(name)}" for name, value in _leaves(theirs.to_dict())
              if name.rpartition(".")[2] in DECISIVE and value != expected.get(name)]
    if wrong:
        raise UserError(f"π0 weights {folder}", f"config.json: {'; '.join(wrong[:5])}", "the sizes of the recipe",
                        "set `architecture` of both backbone and head to the checkpoint's")


def _published(folder: Path, whole: PI0ForConditionalGeneration) -> Iterator[tuple[str, Path, str, tuple[int, ...]]]:
    """(transformers' name, file, name in the file, shape) of every tensor, renamed as `from_pretrained` would."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise UserError(f"π0 weights {folder}", "there is no model*.safetensors", f"the whole of {PUBLISHED}",
                        f"fetch it into {folder}")
    mapping = get_model_conversion_mapping(whole)
    renamings = [rule for rule in mapping if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in mapping if isinstance(rule, WeightConverter)]
    names = whole.state_dict()
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (it is no dict)
                    name, _ = rename_source_key(key, renamings, converters, whole.base_model_prefix, names)
                    yield name, file, key, tuple(tensors.get_slice(key).get_shape())
        except (SafetensorError, OSError) as error:
            raise UserError(f"π0 weights {file}", f"cannot be read ({error})", "a safetensors file", "fetch it again") from None


def _leaves(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}", inner
