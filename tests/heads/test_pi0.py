"""π0's action expert: loss and samples are transformers', draws, padding, and the whole pair behind a `Policy`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_context import context as other_context
from toy_pi0 import ARCHITECTURE, IMAGE, OUTPUT, PROMPTS, halves, options, save_tokenizer, whole

from heads.head import Prefix
from heads.pairing import require_pairing
from heads.pi0 import PI0
from perception.percept import Percept
from robot_io import UserError

STATE = torch.linspace(-1, 1, 8).reshape(2, 4)
ACTIONS = torch.linspace(-1, 1, 30).reshape(2, 5, 3)
VALID = torch.ones(2, 5, dtype=torch.bool)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def model():
    return whole()


@pytest.fixture(scope="module")
def pair(model, tokenizer: Path):
    return halves(model, tokenizer)


def pictures() -> Percept:
    return Percept(images=torch.rand(2, 2, 3, 28, 28, generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def seen(pair):
    return pair[0](pictures(), PROMPTS, STATE)


def theirs(backbone) -> dict[str, torch.Tensor]:
    """The same observation as transformers' model takes it."""
    ids, real = backbone.encode(PROMPTS)
    return {
        "input_ids": torch.cat([torch.full((2, 8), IMAGE), ids], 1),
        "attention_mask": torch.cat([torch.ones(2, 8, dtype=torch.long), real.long()], 1),
        "pixel_values": 2 * pictures().images - 1, "pixel_attention_mask": torch.ones(2, 2, dtype=torch.bool),
        "state": torch.nn.functional.pad(STATE, (0, 4)),
    }  # fmt: skip


def test_the_loss_equals_transformers_with_the_same_noise_and_time(model, pair, seen):
    torch.manual_seed(5)
    found = pair[1].loss(seen, ACTIONS, VALID)
    torch.manual_seed(5)
    time = 0.999 * torch.distributions.Beta(torch.tensor(1.5), torch.tensor(1.0)).sample((2,)) + 0.001
    noise = torch.randn(2, 5, 6)
    padded = torch.nn.functional.pad(ACTIONS, (0, 3))
    expected = model(**theirs(pair[0]), actions=padded, noise=noise, timestep=time)
    torch.testing.assert_close(found.total, expected.loss, atol=1e-5, rtol=1e-5)
    own = (noise - padded - expected.logits)[..., :3].square().mean()
    torch.testing.assert_close(found.parts["own"], own.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 10])
def test_samples_equal_transformers_with_the_same_noise(model, pair, seen, steps: int):
    noise = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))
    expected = model.sample_actions(**theirs(pair[0]), noise=noise, num_steps=steps)
    head = pair[1]
    head.config = head.config.model_copy(update={"steps": steps})
    found = head.sample(seen, noise=noise[:, None])
    assert found.shape == (2, 1, 5, 3)
    torch.testing.assert_close(found[:, 0], expected[..., :3], atol=1e-5, rtol=1e-5)


def test_gradients_of_both_halves_equal_transformers(model, pair, seen):
    torch.manual_seed(5)
    pair[1].loss(seen, ACTIONS, VALID).total.backward()
    ours = {"model.vlm." + name: p.grad for name, p in pair[0].vlm.named_parameters()}
    ours |= {name: p.grad for name, p in pair[1].expert.named_parameters()}
    torch.manual_seed(5)
    model(**theirs(pair[0]), actions=torch.nn.functional.pad(ACTIONS, (0, 3))).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-3, msg=name)
    assert ours["model.vlm.vision_tower.encoder.layers.0.mlp.fc1.weight"].abs().max() > 0
    for half in (*pair, model):
        half.zero_grad()


def test_each_draw_depends_on_its_own_sample_and_noise_alone(pair, seen):
    noise = torch.randn(2, 3, 5, 3)
    together = pair[1].sample(seen, n=3, noise=noise)
    assert together.shape == (2, 3, 5, 3)
    alone = pair[1].sample(seen, noise=noise[:, 2:])
    torch.testing.assert_close(together[:, 2:], alone)
    assert (together[:, 0] - together[:, 1]).abs().max() > 1e-3


def test_noise_fixes_the_draw_whatever_torchs_seed(pair, seen):
    noise = torch.randn(2, 1, 5, 3)
    torch.manual_seed(1)
    first, free = pair[1].sample(seen, noise=noise), pair[1].sample(seen)
    torch.manual_seed(2)
    assert torch.equal(pair[1].sample(seen, noise=noise), first)
    assert not torch.equal(pair[1].sample(seen), free)


def test_a_prefix_is_kept_to_the_bit_and_gone_on_from(pair, seen):
    noise = torch.randn(2, 2, 5, 6)
    given = Prefix(ACTIONS, torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]))
    free = pair[1].sample(seen, n=2, noise=noise)
    with torch.inference_mode():
        found = pair[1].sample(pair[0](pictures(), PROMPTS, STATE), n=2, noise=noise, prefix=given)
    assert torch.equal(found[:, :, :2], ACTIONS[:, None, :2].expand(2, 2, 2, 3))
    assert (found[:, :, 2:] - free[:, :, 2:]).abs().max() > 1e-4
    assert (found[:, :, 2] - ACTIONS[:, None, 2]).abs().mean() < (free[:, :, 2] - ACTIONS[:, None, 2]).abs().mean()
    unweighted = pair[1].sample(seen, n=2, noise=noise, prefix=Prefix(ACTIONS, torch.zeros(5)))
    torch.testing.assert_close(unweighted, free, atol=1e-5, rtol=1e-5)


def test_invalid_steps_influence_neither_loss_nor_gradients(pair, seen):
    valid = VALID.clone()
    valid[0, 2:] = False
    results = []
    for padding in (0.0, float("nan")):
        actions = ACTIONS.clone()
        actions[~valid] = padding
        torch.manual_seed(3)
        pair[1].zero_grad()
        loss = pair[1].loss(seen, actions, valid).total
        loss.backward(retain_graph=True)
        results.append((loss.item(), pair[1].expert.action_out_proj.weight.grad.clone()))
    assert results[0][0] == results[1][0] and torch.equal(results[0][1], results[1][1])
    pair[1].zero_grad()


def test_the_state_reaches_the_actions(pair, seen):
    noise = torch.randn(2, 1, 5, 3)
    moved = pair[0](pictures(), PROMPTS, STATE + 1)
    assert (pair[1].sample(moved, noise=noise) - pair[1].sample(seen, noise=noise)).abs().max() > 1e-3


def test_the_velocity_at_one_noise_and_time_is_learnt(tokenizer: Path):
    backbone, head = halves(whole(), tokenizer)
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-2)
    losses = []
    for _ in range(25):
        torch.manual_seed(0)
        loss = head.loss(backbone(pictures(), PROMPTS, STATE), ACTIONS, VALID).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_mistakes_are_refused(pair, seen):
    with pytest.raises(UserError, match="7 action dimensions; expected at most 6"):
        PI0(PI0.Config(**options()), replace(OUTPUT, action_dim=7))
    with pytest.raises(UserError, match=r"width 128; expected 16.*backbone\.kind=pi0"):
        PI0(PI0.Config(**options()), replace(OUTPUT, context_dim=128))
    with pytest.raises(UserError, match="gives no keys and values"):
        pair[1].sample(other_context(2))
    with pytest.raises(UserError, match=r"noise: shape \(2, 1, 5, 4\)"):
        pair[1].sample(seen, noise=torch.zeros(2, 1, 5, 4))
    with pytest.raises(UserError, match="guide"):
        pair[1].sample(seen, guide=lambda actions, level: actions)


@pytest.mark.parametrize(("backbone", "head", "lacks"), [("tiny", "pi0", "layers"), ("pi0", "diffusion", "readout")])
def test_a_pair_that_does_not_fit_is_refused_by_its_cards(backbone: str, head: str, lacks: str):
    with pytest.raises(UserError, match=f"needs {lacks}.*{backbone}|needs {lacks}") as error:
        require_pairing(backbone, head)
    assert "pi0" in error.value.expected


@pytest.mark.parametrize(("backbone", "head"), [("pi0", "pi0"), ("tiny", "diffusion"), ("my_package:Mine", "pi0")])
def test_a_pair_that_fits_or_has_no_card_passes(backbone: str, head: str):
    require_pairing(backbone, head)


@pytest.mark.parametrize("tuning", [{}, {"mode": "lora", "vision": "frozen"}], ids=["full", "lora"])
def test_a_policy_is_saved_without_its_tokenizer_and_samples_the_same(tokenizer: Path, tmp_path: Path, tuning: dict):
    from toy_robot import ToyRobot

    from vla.normalize import Normalizer
    from vla.policy import Policy
    from vla.recipe import Recipe

    both = {"kind": "pi0", "checkpoint": None, "architecture": ARCHITECTURE}
    words = save_tokenizer(tmp_path / "tokenizer")
    recipe = Recipe.from_dict({
        "backbone": {**both, "tokenizer": str(words), "dtype": "float32"}, "head": both, "horizon": 4, "execute": 2, "tuning": tuning})
    robot = ToyRobot()
    robot.reset(3)
    spec = robot.spec
    numbers = np.random.default_rng(0)
    columns = (numbers.random((20, dim), np.float32) for dim in (spec.action.dim, len(spec.observation.state)))
    policy = Policy.build(recipe, spec, Normalizer.measure(spec, *columns))
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
        assert parameter.requires_grad or not name.startswith("head.")
    policy.save(tmp_path / "policy")
    (words / "tokenizer.json").unlink()
    loaded = Policy.load(tmp_path / "policy")
    ours, again = (p.act([robot.observe()], n=2, seed=5) for p in (policy, loaded))
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(ours, again, strict=True))
    assert ours[0].actions.shape == (4, spec.action.dim)
