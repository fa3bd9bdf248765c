"""The policy folder: all that is needed to rebuild a policy, and nothing of what trained it.

    recipe.yaml         the resolved recipe
    spec.json           the robot it drives, as the policy sees it
    stats.safetensors   normalisation
    model.safetensors   every weight but those of the backbone's adapters, named as if there were none
    adapter/            the backbone's LoRA weights in peft's own format, if the recipe asks for them
    backbone/           what the backbone needs besides weights to be rebuilt (its configuration, its tokenizer), if anything
    head/               the same of the head (the tokenizer of its actions)
    perception-0/       likewise of the first front-end, …
    digests.json        SHA-256 of the files above

Weights are matched by name and nothing is skipped: a missing, left-over or differently shaped tensor refuses to load.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import zip_longest
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from heads import HEADS
from robot_io import RobotSpec, UserError
from robot_io.errors import misfits
from vla.assembly import assemble
from vla.normalize import Normalizer
from vla.overrides import apply_overrides
from vla.policy import Policy
from vla.recipe import Recipe
from vla.sealed import check_seal, sealing
from vla.tuning import holds_quantized, is_adapter, plain_name, restore_quantized, tune, unwritten

FRONT_ENDS = "front_ends."
BACKBONE, HEAD = "backbone", "head"


def save_policy(policy: Policy, folder: Path) -> None:
    with sealing(folder) as partial:
        (partial / "recipe.yaml").write_text(policy.recipe.to_yaml(), encoding="utf-8")
        (partial / "spec.json").write_text(json.dumps(policy.spec.to_dict(), indent=1))
        policy.normalizer.save(partial / "stats.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in _plain_weights(policy).items()}, partial / "model.safetensors")
        policy.plain_backbone.save_assets(partial / BACKBONE)
        policy.head.save_assets(partial / HEAD)
        for number, front_end in enumerate(policy.front_ends):
            front_end.save_assets(partial / f"perception-{number}")
        if policy.backbone is not policy.plain_backbone:
            policy.backbone.save_pretrained(partial / "adapter")


def load_policy(folder: Path, overrides: Sequence[str] = ()) -> Policy:
    """Rebuild the policy that was saved, or one that differs in its perception, or in how its head samples.

    Args:
        overrides: changes of `perception`, for example `perception.0.detector={kind: oracle}`. Front-ends that change are made
            anew, with the weights they are published with, not those in the folder. And of those options of the head that
            training does not depend on (`Head.sampling`), for example `head.steps=4`.

    Raises:
        UserError: the folder is not a policy, or not the one that was written; an override of anything else, or of a front-end that
            was trained.
    """
    check_seal(folder, "policy")
    try:
        spec = RobotSpec.from_dict(json.loads((folder / "spec.json").read_text()))
        trained = Recipe.from_yaml(folder / "recipe.yaml")
        recipe = opened_otherwise(trained, overrides)
        weights = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise UserError(f"policy {folder}", f"'{Path(error.filename).name}' is missing", "a folder written by Policy.save",
                        "give the folder of a policy, such as runs/NAME/policy") from None
    parts = [BACKBONE, *(f"perception-{number}" for number in range(len(recipe.perception)))]
    assets = {part: folder / part for part in parts if (folder / part).is_dir()}
    quantized = holds_quantized(weights)
    with unwritten() if quantized and not overrides else nullcontext():
        spec, front_ends, backbone, head = assemble(recipe, spec, assets)
    head.load_assets(folder / HEAD)
    if quantized:
        restore_quantized(backbone, weights, "backbone.")
        restore_quantized(head, weights, "head.")
    policy = Policy(recipe, spec, Normalizer.load(folder / "stats.safetensors"), front_ends, backbone, head)
    _load_weights(policy, weights, folder, skip=_changed(policy, trained))
    adapter = folder / "adapter"
    policy.backbone = tune(backbone, recipe.tuning, adapter if adapter.is_dir() else None)
    return policy.eval()


def opened_otherwise(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The same recipe with other perception, or with a head that samples otherwise.

    Raises:
        UserError: an override of anything else.
    """
    free = sorted(HEADS.load(recipe.head.kind).sampling)
    for override in overrides:
        if not override.startswith(("perception", *(f"head.{name}=" for name in free))):
            raise UserError(f"override '{override}'", "changes what was trained",
                            ", ".join(["perception.…", *(f"head.{name}" for name in free)]), "train another policy")
    return Recipe.from_dict(apply_overrides(recipe.to_dict(), overrides)) if overrides else recipe


def _changed(policy: Policy, trained: Recipe) -> tuple[str, ...]:
    """How the names of weights begin that belong to front-ends other than those trained with.

    Raises:
        UserError: one that is trained: without its own weights it would be random.
    """
    pairs = list(zip_longest(trained.perception, policy.recipe.perception))
    for number, (before, after) in enumerate(pairs):
        if after is not None and after != before and not policy.front_ends[number].frozen:
            raise UserError(f"override of perception.{number}", f"'{after.kind}' is trained with a policy", "the front-end that this one "
                            "was trained with", "leave it as it is, and where it is in the list")
    return tuple(f"{FRONT_ENDS}{number}." for number, (before, after) in enumerate(pairs) if before != after)


def _plain_weights(policy: nn.Module) -> dict[str, Tensor]:
    """Weights by plain name; of tensors that share memory (tied embeddings), the first name alone."""
    weights: dict[str, Tensor] = {}
    seen: set[tuple] = set()
    for name, tensor in policy.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        theirs = is_adapter(name) and name.startswith(BACKBONE)  # a front-end keeps its adapters among its other weights
        if not theirs and (tensor.numel() == 0 or place not in seen):
            seen.add(place)
            weights[plain_name(name)] = tensor
    return weights


def _load_weights(policy: nn.Module, weights: dict[str, Tensor], folder: Path, skip: tuple[str, ...]) -> None:
    """Copy `weights` by name; neither those whose names begin with one of `skip` nor the policy's own of that name."""
    def wanted(named: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in named.items() if not name.startswith(skip)}

    expected, weights = wanted(_plain_weights(policy)), wanted(weights)
    ours, theirs = ({name: tuple(tensor.shape) for name, tensor in named.items()} for named in (expected, weights))
    if wrong := misfits(ours, theirs):
        raise UserError(f"policy {folder}", "; ".join(sorted(wrong)[:5]), "the weights of the recipe beside them",
                        "load it with the version of this project that wrote it")
    for name, tensor in expected.items():  # these share memory with the policy's own
        tensor.copy_(weights[name])
