"""The flow head: parity with transformers' π0 given the same velocity, and the rest of the contract with every expert."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from pydantic import ValidationError
from toy_context import OUTPUT, all_valid, assert_invalid_steps_do_not_count, chunk, context, fit

from backbones.context import Context, Inputs
from heads.experts import Expert, Seen
from heads.flow import Flow
from heads.head import Output
from perception.percept import Percept
from robot_io import UserError

TRANSFORMER = {"width": 32, "depth": 2, "attention_heads": 2, "head_dim": 8, "dropout": 0.0}
EXPERTS = {
    "mlp": {"width": 64, "depth": 2, "condition": 16, "dropout": 0.0},
    "unet": {"kind": "unet", "down_dims": (8, 16), "groups": 4, "step_embedding": 16, "condition": 16},
    "dit": {"kind": "dit", "width": 32, "depth": 2, "attention_heads": 2, "dropout": 0.0},
    "cross": {"kind": "cross", **TRANSFORMER},
    "cross, readouts": {"kind": "cross", "reads": "readout", **TRANSFORMER},
    "joint": {"kind": "joint", **TRANSFORMER},
    "joint, shared heads": {"kind": "joint", **TRANSFORMER, "kv_heads": 1},
}
SHAPE = (OUTPUT.horizon, OUTPUT.action_dim)


def build(seed: int = 0, **options) -> Flow:
    torch.manual_seed(seed)
    return Flow(Flow.Config(**{"expert": EXPERTS["mlp"], **options}), OUTPUT)


def stirred(**options) -> Flow:
    """A head in evaluation mode whose zero-initialised layers have been filled, so that its output depends on its input."""
    head = build(**options).eval()
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return head


def layered(batch: int, heads: int = 2, seed: int = 0) -> Context:
    """A context with keys and values of two layers."""
    torch.manual_seed(seed)
    plain = context(batch, seed)
    return replace(plain, layers=tuple(tuple(torch.randn(2, batch, heads, 6, 8)) for _ in range(2)))


def seen_by(name: str, batch: int) -> Context:
    return layered(batch, heads=1 if "shared" in name else 2)


def one(context: Context, index: int) -> Context:
    """The context of one sample alone."""
    rows = slice(index, index + 1)
    layers = None if context.layers is None else tuple(tuple(t[rows] for t in layer) for layer in context.layers)
    return Context(context.hidden[rows], context.mask[rows], context.readout[rows], layers)


@cache
def two_mode_weights(prediction: str) -> dict[str, torch.Tensor]:
    head = build(prediction=prediction)
    fit(head, 300, 3e-3)
    return head.state_dict()


def two_mode_head(prediction: str = "velocity", **options) -> Flow:
    """One that was trained on chunks of either side."""
    head = build(prediction=prediction, **options).eval()
    head.load_state_dict(two_mode_weights(prediction))
    torch.manual_seed(0)
    return head


class PI0Velocity(Expert):
    """transformers' whole π0 as an expert: nothing of the context but who asks."""

    condition_shapes = ()

    def __init__(self, model, observation: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.model, self.observation = model, observation

    def condition(self, context: Context) -> Seen:
        return Seen((torch.arange(len(context.mask)).float(),))

    def forward(self, noisy, time, seen):
        who = seen.parts[0].long()
        return self.model(**{name: value[who] for name, value in self.observation.items()}, noise=noisy, timestep=time).logits


@pytest.fixture(scope="module")
def pi0():
    """(our head around π0's velocity, the model, an observation as it takes it, the context that stands for it)."""
    from toy_pi0 import ARCHITECTURE, IMAGE, whole

    generator = torch.Generator().manual_seed(1)
    words = torch.tensor([[2, 5, 6, 7, 8, 10, 4], [2, 5, 7, 10, 11, 4, 0]])
    observation = {
        "input_ids": torch.cat([torch.full((2, 4), IMAGE), words], 1),
        "attention_mask": torch.cat([torch.ones(2, 4, dtype=torch.long), (words != 0).long()], 1),
        "pixel_values": torch.rand(2, 1, 3, 28, 28, generator=generator) * 2 - 1,
        "pixel_attention_mask": torch.ones(2, 1, dtype=torch.bool),
        "state": torch.randn(2, 8, generator=generator),
    }
    model = whole()
    output = Output(horizon=5, action_dim=ARCHITECTURE["max_action_dim"], context_dim=16, queries=1)
    head = Flow(Flow.Config(repeats=1), output).eval()
    head.expert = PI0Velocity(model, observation)
    return head, model, observation, Context(torch.zeros(2, 1, 16), torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 1, 16))


def test_the_loss_equals_pi0s_own_with_the_same_velocity(pi0):
    head, model, observation, seen = pi0
    actions = torch.rand(2, 5, 6) * 2 - 1
    torch.manual_seed(7)
    found = head.loss(seen, actions, torch.ones(2, 5, dtype=torch.bool)).total
    torch.manual_seed(7)
    expected = model(**observation, actions=actions).loss  # draws its own time and noise, in the same order
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_euler_steps_equal_pi0s_own_with_the_same_velocity(pi0, steps: int):
    head, model, observation, seen = pi0
    head.config = head.config.model_copy(update={"steps": steps})
    noise = torch.randn(2, 1, 5, 6)
    expected = model.sample_actions(**observation, noise=noise[:, 0], num_steps=steps)
    torch.testing.assert_close(head.sample(seen, noise=noise)[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_invalid_steps_influence_neither_loss_nor_gradients():
    assert_invalid_steps_do_not_count(stirred())


def test_a_batch_without_a_valid_step_gives_a_zero_loss():
    assert build().loss(context(2), chunk(2), ~all_valid(2)).total == 0.0


@pytest.mark.parametrize("name", ["mlp", "cross", "joint"])
def test_one_sample_is_learnt(name: str):
    head, actions, seen = build(repeats=16, expert=EXPERTS[name]), chunk(1), seen_by(name, 1)
    first = head.loss(seen, actions, all_valid(1)).total.item()
    assert fit(head, 60, 5e-3, seen=seen, actions=actions) < 0.3 * first
    assert (head.sample(seen, n=8) - actions[:, None]).abs().mean() < 0.15


@pytest.mark.parametrize("name", EXPERTS)
def test_draws_depend_on_their_own_sample_and_noise_alone(name: str):
    head, noise, seen = stirred(expert=EXPERTS[name]), torch.randn(2, 3, *SHAPE), seen_by(name, 2)
    together = head.sample(seen, n=3, noise=noise)
    assert together.shape == (2, 3, *SHAPE)
    torch.testing.assert_close(together[1, 2], head.sample(one(seen, 1), noise=noise[1:, 2:])[0, 0])
    other = head.sample(one(seen, 0), noise=noise[1:, 2:])[0, 0]
    assert (together[1, 2] - other).abs().max() > 1e-4  # but on its own sample they do depend


@pytest.mark.parametrize("name", ["cross", "joint"])
def test_what_is_masked_is_not_seen(name: str):
    head, noise, seen = stirred(expert=EXPERTS[name]), torch.randn(1, 1, *SHAPE), layered(1)
    hidden = seen.hidden.clone()
    hidden[:, 4:] += 5.0
    layers = tuple(tuple(torch.cat([t[:, :, :4], t[:, :, 4:] + 5.0], 2) for t in layer) for layer in seen.layers)
    changed = replace(seen, hidden=hidden, layers=layers)
    torch.testing.assert_close(head.sample(changed, noise=noise), head.sample(seen, noise=noise))
    unmasked = replace(changed, mask=torch.ones_like(seen.mask))
    assert (head.sample(unmasked, noise=noise) - head.sample(seen, noise=noise)).abs().max() > 1e-4


@pytest.mark.parametrize(("solver", "prediction"), [("euler", "velocity"), ("heun", "velocity"), ("midpoint", "velocity"),
                                                    ("euler", "sample"), ("heun", "sample")])
def test_draws_visit_both_modes_and_nothing_between(solver: str, prediction: str):
    draws = two_mode_head(prediction, solver=solver).sample(context(4), n=64)
    assert draws.shape == (4, 64, *SHAPE)
    side = draws.mean((2, 3)).sign()[..., None, None]
    assert (draws - 0.5 * side).abs().amax((2, 3)).lt(0.25).float().mean() > 0.9  # the whole chunk takes one side
    assert 0.3 < (side > 0).float().mean() < 0.7


def test_solvers_agree_where_steps_are_many():
    noise = torch.randn(4, 2, *SHAPE)
    found = [two_mode_head(solver=solver, steps=steps).sample(context(4), n=2, noise=noise)
             for solver, steps in (("euler", 400), ("heun", 40), ("midpoint", 40))]
    for other in found[1:]:
        assert (other - found[0]).abs().max() < 0.05


def test_noise_fixes_the_sample_whatever_torchs_seed():
    head, noise = stirred(), torch.randn(2, 3, *SHAPE)
    torch.manual_seed(1)
    first, free = head.sample(context(2), n=3, noise=noise), head.sample(context(2), n=3)
    torch.manual_seed(2)
    assert torch.equal(first, head.sample(context(2), n=3, noise=noise))
    assert not torch.equal(free, head.sample(context(2), n=3))


@pytest.mark.parametrize("solver", ["euler", "heun", "midpoint"])
def test_a_guide_chooses_the_mode(solver: str):
    levels = []

    def upwards(actions, level):
        levels.append(level)
        assert actions.shape == (8, *SHAPE)
        return 2.0 * torch.ones_like(actions)

    guided = two_mode_head(solver=solver).sample(context(2), n=4, guide=upwards)
    assert (guided > 0.25).all()
    assert levels[0].eq(1.0).all() and all((level > 0).all() and (level <= 1).all() for level in levels)
    assert levels[0][0] > levels[-1][0]


def test_a_guide_without_gradient_changes_nothing():
    head, noise = stirred(), torch.randn(1, 2, *SHAPE)
    guided = head.sample(context(1), n=2, noise=noise, guide=lambda actions, level: torch.zeros_like(actions))
    assert torch.equal(guided, head.sample(context(1), n=2, noise=noise))


def test_condition_dropout_learns_what_is_likely_without_the_context():
    """With the context the chunk is on the side that it names, without it (guidance scale 0) on either."""
    torch.manual_seed(0)
    head = build(condition_dropout=0.5)
    side = torch.randint(0, 2, (64, 1, 1)).float() - 0.5
    seen = replace(context(64), readout=side.expand(64, 2, 16) * torch.linspace(-2, 2, 16))
    fit(head, 250, 3e-3, seen=seen, actions=side.expand(64, *SHAPE))
    blind = build(condition_dropout=0.5, guidance_scale=0.0).eval()
    blind.load_state_dict(head.state_dict())
    assert (head.sample(seen, n=4).mean((2, 3)).sign() == side.sign()[:, 0]).float().mean() > 0.95
    assert 0.25 < (blind.sample(seen, n=4).mean((2, 3)) > 0).float().mean() < 0.75


def test_a_predicted_chunk_gives_the_velocity_towards_it():
    """A network that always predicts the same chunk: the straight line there, in any number of steps."""
    noise = torch.randn(2, 1, *SHAPE)
    for steps in (1, 4):
        head = build(prediction="sample", steps=steps).eval()
        torch.nn.init.constant_(head.expert.denoiser.predict.bias, 0.3)
        torch.testing.assert_close(head.sample(context(2), noise=noise), torch.full((2, 1, *SHAPE), 0.3))


@pytest.mark.parametrize("name", EXPERTS)
def test_guided_samples_equal_a_plain_loop_that_extrapolates(name: str):
    head = stirred(condition_dropout=0.1, guidance_scale=2.5, expert=EXPERTS[name])
    context, noise = seen_by(name, 3), torch.randn(3, 1, *SHAPE)
    seen = head.expert.condition(context)
    nothing = Seen(tuple(s.expand_as(part) for s, part in zip(head.unconditional, seen.parts, strict=True)), seen.mask)
    expected = noise[:, 0]
    for step in range(10):
        time = torch.full((3,), 1 - step / 10)
        with_it, without = head.expert(expected, time, seen), head.expert(expected, time, nothing)
        expected = expected - (without + 2.5 * (with_it - without)) / 10
    torch.testing.assert_close(head.sample(context, noise=noise)[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_without_guidance_there_is_nothing_but_the_expert_to_save():
    assert {name.split(".")[0] for name in build().state_dict()} == {"expert"}
    assert "unconditional.0" in build(condition_dropout=0.1).state_dict()


def test_condition_dropout_is_for_training_alone():
    plain, dropping = stirred(), stirred(condition_dropout=0.9)
    dropping.load_state_dict(plain.state_dict(), strict=False)

    def loss(head: Flow) -> float:
        torch.manual_seed(0)
        return head.loss(context(4), chunk(4), all_valid(4)).total.item()

    assert loss(dropping) == loss(plain)
    assert loss(dropping.train()) != loss(plain.train())


def test_the_joint_expert_trains_the_layers_of_the_tiny_backbone():
    from backbones.tiny.model import Tiny

    torch.manual_seed(0)
    backbone = Tiny(Tiny.Config(weights=None, dim=32, layers=2, heads=2, queries=2, eye_width=8, eye_blocks=0), Inputs(1, (24, 24), 3))
    percept, words = Percept(images=torch.rand(2, 1, 3, 24, 24)), ["pick up the red cube", "pick it up"]
    expert = {**EXPERTS["joint"], "head_dim": 16}
    head = Flow(Flow.Config(expert=expert), replace(OUTPUT, context_dim=32))
    torch.nn.init.normal_(head.expert.velocity.predict.weight, std=0.1)  # at zero nothing would flow back
    seen = backbone(percept, words, torch.zeros(2, 3))
    assert [tuple(t.shape) for t in seen.layers[0]] == [(2, 2, seen.hidden.shape[1], 16)] * 2
    head.loss(seen, chunk(2), all_valid(2)).total.backward()
    assert all(layer.attend.k.weight.grad.abs().max() > 0 for layer in backbone.layers)
    backbone.enable_checkpointing()
    torch.testing.assert_close(backbone(percept, words, torch.zeros(2, 3)).layers, seen.layers)


@pytest.mark.parametrize(("seen", "expert", "match"), [
    (context(1), "joint", "set head.expert.kind=cross"),
    (layered(1, heads=1), "joint", "set head.expert.depth=2 head.expert.kv_heads=1 head.expert.head_dim=8"),
])
def test_a_backbone_without_fitting_layers_is_refused(seen: Context, expert: str, match: str):
    with pytest.raises(UserError, match=match):
        build(expert=EXPERTS[expert]).sample(seen)


@pytest.mark.parametrize("expert", [EXPERTS["mlp"], EXPERTS["cross, readouts"]])
def test_a_backbone_without_readouts_is_refused_by_what_reads_them(expert: dict):
    with pytest.raises(UserError, match="readout"):
        Flow(Flow.Config(expert=expert), replace(OUTPUT, queries=0))


@pytest.mark.parametrize("options", [
    {"solver": "rk4"}, {"steps": 0}, {"time": {"kind": "beta", "alpha": 0}}, {"expert": {"widht": 3}}, {"expert": {"kind": "gan"}},
    {"time": {"kind": "uniform", "alpha": 1}}, {"condition_dropout": 1.0},
])
def test_a_wrong_configuration_is_refused(options: dict):
    with pytest.raises(ValidationError):
        Flow.Config(**options)


def test_what_cannot_be_honoured_is_refused():
    with pytest.raises(UserError, match="condition"):
        build().sample(context(1), condition=torch.zeros(1))
    with pytest.raises(UserError, match="condition_dropout"):
        build(guidance_scale=2.0)
    with pytest.raises(UserError, match="kv_heads"):
        build(expert={**EXPERTS["joint"], "kv_heads": 3})


def test_the_configuration_survives_being_written_down():
    config = Flow.Config(expert=EXPERTS["joint"], time={"kind": "uniform"}, solver="heun")
    assert Flow.Config.model_validate(config.model_dump(mode="json")) == config
