"""One-step distillation: a policy whose head takes many denoising steps becomes one whose head takes a single one.

Perception, backbone and normalisation are the teacher's and stay frozen; only the new head (`heads.one_step`) is trained, to
give the chunk that the teacher gives for the same noise. The demonstrations' actions are not used, only what was seen. The run
is an ordinary one (`vla.train`): it goes on where it was killed, and its result is an ordinary policy folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from heads.one_step import OneStep, require_teacher, student_of
from robot_io import RobotSpec, UserError
from robot_io.specs import require_compatible
from vla.cache import weights_digest
from vla.normalize import Normalizer
from vla.overrides import apply_overrides
from vla.policy import Policy
from vla.recipe import Recipe
from vla.train import TrainResult, train

FREE = ("head.", "train.", "evaluation.", "data.root", "data.cache", "name", "execute")
"""What a student's recipe may have otherwise than its teacher's."""


def distill(teacher: str | Path, run_dir: str | Path | None = None, overrides: Sequence[str] = (), *,
            progress: bool = True) -> TrainResult:
    """Train a one-step student of the policy in folder `teacher`, or go on training it; the result is `run_dir/policy`.

    Args:
        run_dir: `runs/NAME` by the student's name if None.
        overrides: of the student's recipe, for example `train.steps=1000` or `head.expert={kind: unet}`.

    Raises:
        UserError: a teacher that cannot teach, an override of what is the teacher's, or whatever `train` refuses.
    """
    policy = Policy.load(teacher)
    recipe = student_recipe(policy, overrides)
    return train(recipe, run_dir or Path("runs") / recipe.name, progress=progress, build=partial(Student.of, policy))


def student_recipe(teacher: Policy, overrides: Sequence[str] = ()) -> Recipe:
    """The teacher's recipe with another head. It names its teacher, so that a run of one is never continued with another."""
    require_teacher(teacher.head)
    for override in overrides:
        if not override.startswith(FREE):
            raise UserError(f"override '{override}'", "changes what a student shares with its teacher",
                            "head.…, train.…, evaluation.…, data.root, data.cache, execute or name", "train another teacher")
    plain = teacher.recipe.to_dict()
    plain["name"] += "-one-step"
    plain["head"] = {**student_of(teacher.head).model_dump(mode="json"), "teacher": weights_digest(teacher)}
    recipe = Recipe.from_dict(apply_overrides(plain, overrides))
    if recipe.head.kind != "one_step":
        raise UserError("head.kind", f"'{recipe.head.kind}'", "'one_step'", "leave it out: only that head learns from a teacher")
    return recipe


class Student(Policy):
    """A policy of which only the head is trained. Saved, it is a `Policy` like any other."""

    @classmethod
    def of(cls, teacher: Policy, recipe: Recipe, spec: RobotSpec, normalizer: Normalizer) -> Student:
        """What `Policy.build` is for imitation: `spec` and `normalizer` are of the data, which only have to fit.

        Raises:
            SpecMismatch: the data are of another robot than the teacher.
        """
        require_compatible(teacher.spec, spec, thing="teacher")
        with torch.random.fork_rng():
            torch.manual_seed(recipe.train.seed)
            head = OneStep(recipe.head, teacher.head.output)
        head.learn_from(teacher.head)
        teacher.requires_grad_(False)
        return cls(recipe, teacher.spec, teacher.normalizer, teacher.front_ends, teacher.backbone, head)

    def train(self, mode: bool = True) -> Student:
        """As for any policy, but what is shared with the teacher stays in evaluation mode: no dropout."""
        super().train(mode)
        for shared in (self.front_ends, self.backbone):
            shared.eval()
        return self
