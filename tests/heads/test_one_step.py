"""The one-step student: it starts as its teacher with a single step, learns its many, keeps modes apart, and what it refuses."""

import pytest
import torch
from toy_context import OUTPUT, all_valid, chunk, context, fit

from heads.diffusion import Diffusion
from heads.flow import Flow
from heads.one_step import OneStep, student_of
from heads.regression import Regression
from heads.tokens import Tokens
from robot_io import UserError

MLP = {"width": 64, "depth": 2, "condition": 16, "dropout": 0.0}
SHAPE = (OUTPUT.horizon, OUTPUT.action_dim)


def teacher(kind: str, **options):
    torch.manual_seed(0)
    if kind == "flow":
        return Flow(Flow.Config(expert=MLP, **options), OUTPUT)
    return Diffusion(Diffusion.Config(denoiser=MLP, **options), OUTPUT)


def stirred(head):
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return head.eval()


@pytest.mark.parametrize(("kind", "options"), [
    ("flow", {}), ("flow", {"prediction": "sample"}), ("diffusion", {"clip": None})])
def test_a_student_starts_as_its_teacher_with_a_single_step(kind: str, options: dict):
    model = stirred(teacher(kind, steps=1, **options))
    student = OneStep(student_of(model), OUTPUT).eval()
    student.learn_from(model)
    noise = torch.randn(3, 2, *SHAPE)
    torch.testing.assert_close(student.sample(context(3), n=2, noise=noise), model.sample(context(3), n=2, noise=noise))


def test_a_student_learns_the_map_of_many_steps_and_keeps_the_modes_apart():
    model = teacher("flow")
    fit(model, 300, 3e-3)
    student = OneStep(student_of(model).model_copy(update={"repeats": 8}), OUTPUT)
    student.learn_from(model)
    noise = torch.randn(4, 64, *SHAPE)
    wanted = model.sample(context(4), n=64, noise=noise)
    before = (student.eval().sample(context(4), n=64, noise=noise) - wanted).abs().mean()
    student.train()
    fit(student, 150, 3e-3, actions=torch.zeros(64, *SHAPE))  # actions play no part
    found = student.sample(context(4), n=64, noise=noise)
    assert (found - wanted).abs().mean() < 0.5 * before
    side = found.mean((2, 3)).sign()
    assert (side == wanted.mean((2, 3)).sign()).float().mean() > 0.9
    assert (found.mean((2, 3)) - 0.5 * side).abs().lt(0.25).float().mean() > 0.9
    assert 0.3 < (side > 0).float().mean() < 0.7


def test_the_teacher_is_no_part_of_the_student():
    model = teacher("flow")
    student = OneStep(student_of(model), OUTPUT)
    student.learn_from(model)
    student.loss(context(2), chunk(2), all_valid(2)).total.backward()
    assert all(weight.grad is None for weight in model.parameters())
    assert {name.split(".")[0] for name in student.state_dict()} == {"expert"}


def test_what_the_student_is_follows_from_the_teacher():
    assert student_of(teacher("diffusion")).prediction == "sample"
    assert student_of(teacher("diffusion", prediction="epsilon")).prediction == "velocity"
    cross = {"kind": "cross", "width": 16, "depth": 2, "attention_heads": 2, "head_dim": 8}
    made = student_of(Flow(Flow.Config(expert=cross), OUTPUT))
    assert (made.prediction, made.expert.kind, made.expert.width) == ("velocity", "cross", 16)


@pytest.mark.parametrize(("model", "match"), [
    (lambda: Tokens(Tokens.Config(), OUTPUT), "noise"), (lambda: Regression(Regression.Config(), OUTPUT), "noise"),
    (lambda: teacher("diffusion", sampler="ddpm"), "ddpm"),
])
def test_what_is_no_function_of_its_noise_cannot_teach(model, match: str):
    with pytest.raises(UserError, match=match):
        student_of(model())


def test_without_a_teacher_it_does_not_train():
    with pytest.raises(UserError, match="vla distill"):
        OneStep(OneStep.Config(expert=MLP), OUTPUT).loss(context(1), chunk(1), all_valid(1))
