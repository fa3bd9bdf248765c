"""The regression head: its trunks as published, its losses, and the gripper."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from toy_context import OUTPUT, all_valid, assert_invalid_steps_do_not_count, chunk, context, fit

from backbones.context import Context
from heads.head import Output
from heads.regression import Regression
from robot_io import UserError

PER_STEP = replace(OUTPUT, queries=OUTPUT.horizon * OUTPUT.action_dim)
OFT, FC = {"kind": "oft"}, {"kind": "fc", "width": 32}


def build(output: Output = OUTPUT, seed: int = 0, **options) -> Regression:
    torch.manual_seed(seed)
    return Regression(Regression.Config(**{"trunk": FC, **options}), output)


def many_readouts(batch: int) -> Context:
    seen = context(batch)
    readout = torch.randn(batch, PER_STEP.queries, OUTPUT.context_dim, generator=torch.Generator().manual_seed(8))
    return replace(seen, readout=readout)


def published_action_head(dim: int, steps: int, actions: int) -> dict[str, torch.Tensor]:
    """OFT's `action_head--…_checkpoint.pt` at a small size, with its names."""
    shapes = {"layer_norm1.weight": (actions * dim,), "layer_norm1.bias": (actions * dim,),
              "fc1.weight": (dim, actions * dim), "fc1.bias": (dim,),
              "layer_norm2.weight": (dim,), "layer_norm2.bias": (dim,), "fc2.weight": (actions, dim), "fc2.bias": (actions,)}
    for i in range(2):
        shapes |= {f"mlp_resnet_blocks.{i}.ffn.0.weight": (dim,), f"mlp_resnet_blocks.{i}.ffn.0.bias": (dim,),
                   f"mlp_resnet_blocks.{i}.ffn.1.weight": (dim, dim), f"mlp_resnet_blocks.{i}.ffn.1.bias": (dim,)}
    generator = torch.Generator().manual_seed(2)
    return {f"module.model.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def published_forward(weights: dict[str, torch.Tensor], readout: torch.Tensor, steps: int) -> torch.Tensor:
    """OFT's head (arXiv 2502.19645, app. A) as a function of its published tensors."""
    w = {name.removeprefix("module.model."): value for name, value in weights.items()}

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    x = norm(readout.reshape(len(readout), steps, -1), "layer_norm1")
    x = F.linear(x, w["fc1.weight"], w["fc1.bias"]).relu()
    for i in range(2):
        block = f"mlp_resnet_blocks.{i}.ffn"
        x = F.linear(norm(x, f"{block}.0"), w[f"{block}.1.weight"], w[f"{block}.1.bias"]).relu() + x
    return F.linear(norm(x, "layer_norm2"), w["fc2.weight"], w["fc2.bias"])


def test_a_published_oft_head_loads_and_computes_as_published(tmp_path):
    weights = published_action_head(OUTPUT.context_dim, OUTPUT.horizon, OUTPUT.action_dim)
    torch.save(weights, tmp_path / "action_head--150000_checkpoint.pt")
    head = build(PER_STEP, trunk=OFT, weights=str(tmp_path))
    head.load_pretrained()
    seen = many_readouts(2)
    torch.testing.assert_close(head.sample(seen)[:, 0], published_forward(weights, seen.readout, OUTPUT.horizon))


@pytest.mark.parametrize("change, complaint", [
    (lambda w: w.update({"module.model.fc3.bias": torch.zeros(1)}), "'fc3.bias' belongs nowhere"),
    (lambda w: w.pop("module.model.fc2.bias"), "'fc2.bias' is missing"),
], ids=["left over", "missing"])
def test_a_published_head_with_a_name_too_many_or_too_few_is_an_error(tmp_path, change, complaint):
    weights = published_action_head(OUTPUT.context_dim, OUTPUT.horizon, OUTPUT.action_dim)
    change(weights)
    torch.save(weights, tmp_path / "action_head--150000_checkpoint.pt")
    with pytest.raises(UserError, match=complaint):
        build(PER_STEP, trunk=OFT, weights=str(tmp_path)).load_pretrained()


def test_a_checkpoint_without_a_head_is_an_error(tmp_path):
    with pytest.raises(UserError, match="action_head"):
        build(PER_STEP, trunk=OFT, weights=str(tmp_path)).load_pretrained()


def test_each_step_of_the_oft_trunk_reads_its_own_positions():
    head, seen = build(PER_STEP, trunk=OFT).eval(), many_readouts(1)
    changed = seen.readout.clone()
    changed[:, OUTPUT.action_dim:2 * OUTPUT.action_dim] += torch.randn(OUTPUT.action_dim, OUTPUT.context_dim)
    moved = (head.sample(replace(seen, readout=changed)) - head.sample(seen)).abs().amax((0, 1, 3))
    assert moved[1] > 1e-3
    assert moved[[0, 2, 3]].max() < 1e-6


def test_vlm4vlas_decoder_adds_less_than_a_percent():
    with torch.device("meta"):
        head = Regression(Regression.Config(trunk={"kind": "fc"}, gripper=6), Output(10, 7, 2048, 1))
    assert sum(p.numel() for p in head.parameters()) < 0.01 * 2.1e9  # Qwen3-VL 2B, the smallest of its table


def test_vlm4vlas_decoder_bounds_the_arm():
    head, seen = build(), context(3)
    large = replace(seen, readout=100 * seen.readout)
    assert head.sample(large).abs().max() <= 1.0


@pytest.mark.parametrize("error, function", [("l1", F.l1_loss), ("mse", F.mse_loss), ("huber", F.huber_loss)])
def test_loss_is_the_mean_error_of_the_valid_numbers(error, function):
    head, valid = build(error=error), all_valid(3)
    valid[1, 1:] = False
    expected = function(head.sample(context(3))[:, 0][valid], 3 * chunk(3)[valid])
    torch.testing.assert_close(head.loss(context(3), 3 * chunk(3), valid).total, expected)


@pytest.mark.parametrize("options", [{}, {"gripper": 1}])
def test_invalid_steps_influence_neither_loss_nor_gradients(options):
    assert_invalid_steps_do_not_count(build(**options))


def test_a_batch_without_a_valid_step_gives_a_zero_loss():
    assert build(gripper=0).loss(context(2), chunk(2), ~all_valid(2)).total == 0.0


@pytest.mark.parametrize("trunk, seen, output", [(FC, context, OUTPUT), (OFT, many_readouts, PER_STEP)], ids=["fc", "oft"])
def test_one_sample_is_learnt_and_its_gripper_decided(trunk, seen, output):
    head, actions = build(output, trunk=trunk, gripper=2, gripper_weight=1.0), chunk(1)
    fit(head, 200, 5e-3, seen=seen(1), actions=actions)
    found = head.sample(seen(1))[:, 0]
    assert (found - actions)[..., :2].abs().max() < 0.05
    assert torch.equal(found[..., 2], actions[..., 2].sign())


def test_the_gripper_is_weighed_and_left_out_of_the_error():
    head, actions = build(gripper=1, gripper_weight=0.5), chunk(2)
    loss = head.loss(context(2), actions, all_valid(2))
    torch.testing.assert_close(loss.total.detach(), loss.parts["l1"] + 0.5 * loss.parts["gripper"])
    actions[..., 1] *= 3
    torch.testing.assert_close(head.loss(context(2), actions, all_valid(2)).total, loss.total)


@pytest.mark.parametrize("argument", ["noise", "guide", "condition"])
def test_an_unsupported_argument_is_refused(argument):
    with pytest.raises(UserError, match=argument):
        build().sample(context(1), **{argument: torch.zeros(1)})


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UserError, match="one chunk"):
        build().sample(context(1), n=2)
    with pytest.raises(UserError, match=r"backbone\.queries=12"):
        build(trunk=OFT)  # 2 readouts for 4 steps
    with pytest.raises(UserError, match="index below 3"):
        build(gripper=3)
    with pytest.raises(ValidationError):
        build(error="l3")
