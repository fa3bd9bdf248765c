"""The policy folder: all that is needed to rebuild a policy, and nothing of what trained it.

    recipe.yaml         the resolved recipe
    spec.json           the robot it drives, as the policy sees it
    stats.safetensors   normalisation
    model.safetensors   every weight but the adapters', named as if there were none
    adapter/            LoRA weights in peft's own format, if the recipe asks for them
    digests.json        SHA-256 of the files above

Weights are matched by name and nothing is skipped: a missing, left-over or differently shaped tensor refuses to load.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robot_io import RobotSpec, UserError
from vla.normalize import Normalizer
from vla.policy import Policy, assemble
from vla.recipe import Recipe
from vla.sealed import check_seal, sealing
from vla.tuning import is_adapter, plain_name, tune


def save_policy(policy: Policy, folder: Path) -> None:
    with sealing(folder) as partial:
        (partial / "recipe.yaml").write_text(policy.recipe.to_yaml(), encoding="utf-8")
        (partial / "spec.json").write_text(json.dumps(policy.spec.to_dict(), indent=1))
        policy.normalizer.save(partial / "stats.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in _plain_weights(policy).items()}, partial / "model.safetensors")
        if policy.backbone is not policy.plain_backbone:
            policy.backbone.save_pretrained(partial / "adapter")


def load_policy(folder: Path) -> Policy:
    """Raises `UserError` if the folder is not a policy, or not the one that was written."""
    check_seal(folder, "policy")
    try:
        spec = RobotSpec.from_dict(json.loads((folder / "spec.json").read_text()))
        recipe = Recipe.from_yaml(folder / "recipe.yaml")
        weights = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise UserError(f"policy {folder}", f"'{Path(error.filename).name}' is missing", "a folder written by Policy.save",
                        "give the folder of a policy, such as runs/NAME/policy") from None
    spec, front_ends, backbone, head = assemble(recipe, spec)
    policy = Policy(recipe, spec, Normalizer.load(folder / "stats.safetensors"), front_ends, backbone, head)
    _load_weights(policy, weights, folder)
    adapter = folder / "adapter"
    policy.backbone = tune(backbone, recipe.tuning, adapter if adapter.is_dir() else None)
    return policy.eval()


def _plain_weights(policy: nn.Module) -> dict[str, Tensor]:
    """Weights by plain name; of tensors that share memory (tied embeddings), the first name alone."""
    weights: dict[str, Tensor] = {}
    seen: set[tuple] = set()
    for name, tensor in policy.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if not is_adapter(name) and (tensor.numel() == 0 or place not in seen):
            seen.add(place)
            weights[plain_name(name)] = tensor
    return weights


def _load_weights(policy: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    expected = _plain_weights(policy)
    wrong = [f"'{name}' is missing" for name in expected.keys() - weights.keys()]
    wrong += [f"'{name}' belongs nowhere" for name in weights.keys() - expected.keys()]
    wrong += [f"'{name}' is {tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
              for name in expected.keys() & weights.keys() if weights[name].shape != expected[name].shape]
    if wrong:
        raise UserError(f"policy {folder}", "; ".join(sorted(wrong)[:5]), "the weights of the recipe beside them",
                        "load it with the version of this project that wrote it")
    for name, tensor in expected.items():  # these share memory with the policy's own
        tensor.copy_(weights[name])
