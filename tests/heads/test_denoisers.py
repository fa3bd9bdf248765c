"""The networks of the diffusion head: the published U-Net's size, what each of them depends on, and what they refuse."""

import pytest
import torch
from torch import nn
from toy_context import OUTPUT, chunk, context

from backbones.context import Context
from heads.denoisers import DENOISERS, DiT, UNet
from heads.diffusion import Diffusion
from heads.head import Output
from robot_io import UserError

SMALL = {
    "mlp": {"kind": "mlp", "width": 32, "depth": 1, "condition": 8},
    "unet": {"kind": "unet", "down_dims": (8, 16), "groups": 4, "step_embedding": 8, "condition": 8},
    "dit": {"kind": "dit", "width": 16, "depth": 2, "attention_heads": 2},
}


def build(kind: str, *, stirred: bool = True, **options) -> nn.Module:
    """In evaluation mode; stirred, its zero-initialised layers are filled."""
    torch.manual_seed(0)
    made = DENOISERS[kind](DENOISERS[kind].Config(**SMALL[kind] | options), OUTPUT).eval()
    if stirred:
        for weight in made.parameters():
            nn.init.normal_(weight, std=0.2)
    return made


def published(action_dim: int, condition: int, dims: tuple[int, ...], kernel: int = 5, step: int = 128) -> int:
    """Parameters of Diffusion Policy's ConditionalUnet1D, counted from its description."""

    def convolution(fed: int, made: int) -> int:
        return fed * made * kernel + made + 2 * made  # and its group normalisation

    def block(fed: int, made: int) -> int:
        film = (step + condition) * 2 * made + 2 * made
        return convolution(fed, made) + convolution(made, made) + film + (fed * made + made if fed != made else 0)

    levels = list(zip((action_dim, *dims[:-1]), dims, strict=True))
    total = step * 4 * step + 4 * step + 4 * step * step + step
    total += sum(block(fed, made) + block(made, made) for fed, made in levels) + 2 * block(dims[-1], dims[-1])
    total += sum(dim * dim * 3 + dim for dim in dims[:-1])
    total += sum(block(2 * made, fed) + block(fed, fed) + fed * fed * 4 + fed for fed, made in levels[1:])
    return total + convolution(dims[0], dims[0]) + dims[0] * action_dim + action_dim


def test_the_unet_of_vo_dp_has_the_published_size():
    """One view of 1024 numbers and 14 joints as condition, 14 actions, 8 steps; counted on no memory at all."""
    vo_dp = Output(horizon=8, action_dim=14, context_dim=1024 + 14, queries=1)
    with torch.device("meta"):
        unet = UNet(UNet.Config(condition=None), vo_dp)
        seen = Context(torch.empty(2, 1, 1038), torch.ones(2, 1, dtype=torch.bool), torch.empty(2, 1, 1038))
        made = unet(torch.empty(2, 8, 14), torch.empty(2), unet.condition(seen))
    assert sum(weight.numel() for weight in unet.parameters()) == published(14, 1038, (256, 512, 1024)) == 77_883_278
    assert made.shape == (2, 8, 14)
    assert [level[1].first[0].weight.shape for level in unet.down] == [(256, 256, 5), (512, 512, 5), (1024, 1024, 5)]
    assert [level[0].first[0].weight.shape for level in unet.up] == [(512, 2048, 5), (256, 1024, 5)]


@pytest.mark.parametrize("dims", [(8,), (8, 16), (8, 8, 16, 16)])
def test_the_unet_keeps_the_shape_at_any_depth(dims):
    output = Output(horizon=8, action_dim=3, context_dim=16, queries=2)
    unet = UNet(UNet.Config(down_dims=dims, groups=4, step_embedding=8, condition=None), output)
    assert unet(torch.zeros(2, 8, 3), torch.ones(2), torch.zeros(2, 32)).shape == (2, 8, 3)
    assert sum(weight.numel() for weight in unet.parameters()) == published(3, 32, dims, step=8)


@pytest.mark.parametrize("kind", SMALL)
def test_the_prediction_depends_on_chunk_level_and_context(kind):
    denoiser, noisy, level = build(kind), chunk(3), torch.full((3,), 0.5)
    condition = denoiser.condition(context(3))
    assert condition.shape[1:] == denoiser.condition_shape
    made = denoiser(noisy, level, condition)
    assert made.shape == noisy.shape
    for other in (denoiser(chunk(3, seed=1), level, condition), denoiser(noisy, level / 2, condition),
                  denoiser(noisy, level, denoiser.condition(context(3, seed=1)))):
        assert not torch.isclose(made, other).all(-1).any()


@pytest.mark.parametrize("kind", SMALL)
def test_samples_do_not_see_one_another(kind):
    denoiser, noisy, level = build(kind), chunk(3), torch.tensor([0.1, 0.5, 1.0])
    condition = denoiser.condition(context(3))
    together = denoiser(noisy, level, condition)
    torch.testing.assert_close(together[1:2], denoiser(noisy[1:2], level[1:2], condition[1:2]))


@pytest.mark.parametrize("kind", ["mlp", "dit"])
def test_a_new_network_predicts_zero(kind):
    denoiser = build(kind, stirred=False)
    assert denoiser(chunk(2), torch.ones(2), denoiser.condition(context(2))).abs().max() == 0.0


def test_a_new_block_of_the_dit_is_the_identity():
    block, hidden = build("dit", stirred=False).blocks[0], torch.randn(2, 4, 16)
    assert torch.equal(block(hidden, torch.randn(2, 2, 16), torch.randn(2, 16)), hidden)


def test_the_dit_knows_which_readout_says_what():
    """Not only their mean: two readouts, changed against one another, change the prediction."""
    denoiser, noisy, level = build("dit"), chunk(1), torch.ones(1)
    condition = denoiser.condition(context(1))
    shifted = condition + torch.tensor([1.0, -1.0]).view(1, 2, 1)
    assert not torch.allclose(denoiser(noisy, level, condition), denoiser(noisy, level, shifted), atol=1e-4)


@pytest.mark.parametrize("kind", SMALL)
def test_any_of_them_in_a_head_by_its_kind(kind):
    head = Diffusion(Diffusion.Config.model_validate({"denoiser": SMALL[kind]}), OUTPUT)
    assert type(head.denoiser) is DENOISERS[kind]


@pytest.mark.parametrize(("options", "said"), [
    ({"down_dims": (8, 8, 8, 8)}, "multiple of 8"), ({"kernel": 4}, "odd"), ({"down_dims": (8, 10)}, "multiples of groups"),
])
def test_a_unet_that_cannot_be_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        build("unet", **options)


def test_a_dit_whose_heads_do_not_divide_its_width_is_refused():
    with pytest.raises(UserError, match="attention_heads"):
        DiT(DiT.Config(width=10, attention_heads=4), OUTPUT)
