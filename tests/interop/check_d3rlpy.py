"""Do our IQL and Cal-QL, with chunks of one action, learn what d3rlpy's do? Run by hand, with a Python that has d3rlpy and this project.

    python3.11 -m venv /tmp/rl-env && echo PATH/TO/THIS/VENV/lib/python3.11/site-packages > /tmp/rl-env/lib/python3.11/site-packages/base.pth
    /tmp/rl-env/bin/pip install --no-deps d3rlpy==2.8.1
    /tmp/rl-env/bin/pip install gym structlog colorama dataclasses-json h5py scikit-learn
    PYTHONPATH=. /tmp/rl-env/bin/python tests/interop/check_d3rlpy.py

The task: a point mass in a room [-1, 1]² must come to within 0.15 of the origin in 40 steps; reward 1 when it does, and the episode ends.
The data: a third of the episodes by a noisy but purposeful controller, two thirds by a wanderer. Both sides see the same 32 fixed random features
of position and velocity, the same transitions, the same discount, and are evaluated on the same 200 starts. Networks differ (their MLPs, our
transformer of two tokens), so curves are compared, not numbers. Writes docs/results/rl_anchor.json.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from backbones.context import Context
from heads.critic import ChunkCritic
from heads.head import Output
from heads.regression import FCDecoder, Regression
from vla.evaluate.statistics import percent, rate
from vla.files import write_json
from vla.results import Row, save_rows
from vla.rl.cal_ql import CalQL
from vla.rl.data import Transitions
from vla.rl.iql import IQL
from vla.rl.loop import Trainer
from vla.rl.recipe import Optim
from vla.rl.returns import monte_carlo, prefix_returns

LIMIT, GAMMA, FEATURES = 40, 0.97, 32
GOAL, PUSH, DRAG = 0.15, 0.06, 0.8
POINTS = 8  # of a curve
Act = Callable[[np.ndarray], np.ndarray]
PROJECTION = np.random.default_rng(0).normal(size=(4, FEATURES)) * [[1.5], [1.5], [5], [5]]
OFFSET = np.random.default_rng(1).uniform(-1, 1, FEATURES)


def features(state: np.ndarray) -> np.ndarray:
    """`[n, 4]` to `float32 [n, 32]`."""
    return np.tanh(state @ PROJECTION + OFFSET).astype(np.float32)


def starts(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    angle = random.uniform(0, 2 * np.pi, n)
    return np.stack([0.8 * np.cos(angle), 0.8 * np.sin(angle), np.zeros(n), np.zeros(n)], 1)


def move(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    velocity = DRAG * state[:, 2:] + PUSH * np.clip(action, -1, 1)
    return np.concatenate([np.clip(state[:, :2] + velocity, -1, 1), velocity], 1)


def rollouts(act: Act, state: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """(states, actions, success) of one episode from each start."""
    states, actions = [], []
    for _ in range(LIMIT):
        action = act(state)
        states.append(state)
        actions.append(action)
        state = move(state, action)
    near = np.array([np.linalg.norm(move(s, a)[:, :2], axis=1) < GOAL for s, a in zip(states, actions, strict=True)])
    found = []
    for i in range(len(state)):
        won = bool(near[:, i].any())
        length = int(near[:, i].argmax()) + 1 if won else LIMIT
        found.append((np.array([s[i] for s in states[:length]]), np.array([a[i] for a in actions[:length]]), won))
    return found


def recorded(episodes: int) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    random = np.random.default_rng(2)
    purposeful = rollouts(lambda s: np.clip(-1.2 * s[:, :2] - 4 * s[:, 2:] + random.normal(0, 0.7, (len(s), 2)), -1, 1), starts(episodes // 3, 3))
    heading = random.uniform(-1, 1, (episodes - episodes // 3, 2))
    wanderer = rollouts(lambda s: np.clip(0.3 * heading + random.normal(0, 0.8, (len(s), 2)), -1, 1), starts(len(heading), 4))
    return purposeful + wanderer


def success_of(act: Act) -> float:
    return float(np.mean([won for *_, won in rollouts(act, starts(200, 5))]))


def ours(algorithm: str, episodes: list, seed: int, steps: int, every: int) -> list[float]:
    """Success after every `every` steps."""
    torch.manual_seed(seed)
    output = Output(horizon=1, action_dim=2, context_dim=FEATURES, queries=1)
    head = Regression(Regression.Config(error="mse", trunk=FCDecoder.Config(width=128)), output)
    critic = ChunkCritic(ChunkCritic.Config(width=48, layers=1, heads=2), output)
    config = {"iql": IQL.Config(expectile=0.7, beta=20.0, actor_after=0, value_width=64),
              "cal_ql": CalQL.Config(conservative=1.0, draws=5, importance=True, bc_weight=0.0, actor_after=0)}[algorithm]
    kind = {"iql": IQL, "cal_ql": CalQL}[algorithm]
    data, contexts = tensors(episodes)
    rate_of_actor = {"iql": 1e-3, "cal_ql": 3e-4}[algorithm]
    trainer = Trainer(kind(config, head, critic, 1, output), contexts, data, Optim(
        steps=steps, batch_size=64, critic_learning_rate=1e-3, actor_learning_rate=rate_of_actor, refresh=10, tau=0.005, seed=seed))
    curve = []

    @torch.no_grad()
    def act(state: np.ndarray) -> np.ndarray:
        return head.eval().sample(context_of(features(state)))[:, 0, 0].numpy()

    for step in range(steps):
        trainer.advance(step)
        if (step + 1) % every == 0:
            curve.append(success_of(act))
    return curve


def context_of(seen: np.ndarray) -> Context:
    readout = torch.from_numpy(seen)[:, None]
    return Context(readout, torch.ones(len(seen), 1, dtype=torch.bool), readout)


def tensors(episodes: list) -> tuple[Transitions, Context]:
    stop = np.cumsum([len(states) for states, *_ in episodes])
    reward = np.zeros(stop[-1], np.float32)
    reward[stop - 1] = [float(won) for *_, won in episodes]
    ends = np.concatenate([np.full(len(states), end) for (states, *_), end in zip(episodes, stop, strict=True)])
    found = prefix_returns(reward, ends, 1, GAMMA)
    count, actions = len(reward), np.concatenate([actions for _, actions, _ in episodes])[:, None].astype(np.float32)
    number = torch.from_numpy(np.searchsorted(stop, np.arange(count), side="right"))
    data = Transitions(
        actions=torch.from_numpy(actions), inside=torch.ones(count, 1, dtype=torch.bool), earned=torch.from_numpy(found.earned),
        discount=torch.from_numpy(found.discount), next=torch.from_numpy(found.next), valid=torch.from_numpy(found.valid),
        mc=torch.from_numpy(monte_carlo(reward, ends, GAMMA)), success=torch.tensor([won for *_, won in episodes])[number],
        source=torch.zeros(count, dtype=torch.long), episode=number, training=torch.arange(count), validation=torch.arange(0),
        weight=np.ones(count), sources=("point mass",))
    return data, context_of(features(np.concatenate([states for states, *_ in episodes])))


def theirs(algorithm: str, episodes: list, seed: int, steps: int, every: int) -> list[float]:
    import d3rlpy

    logging.getLogger("d3rlpy").setLevel(logging.WARNING)
    d3rlpy.seed(seed)
    reward = [np.eye(len(states))[-1] * won for states, _, won in episodes]
    ends = [np.eye(len(states))[-1] for states, *_ in episodes]
    data = d3rlpy.dataset.MDPDataset(
        np.concatenate([features(states) for states, *_ in episodes]), np.concatenate([a for _, a, _ in episodes]).astype(np.float32),
        np.concatenate(reward).astype(np.float32), np.concatenate(ends).astype(np.float32))
    small = {f"{part}_encoder_factory": d3rlpy.models.VectorEncoderFactory([128, 128]) for part in ("actor", "critic")}
    common = {"batch_size": 64, "gamma": GAMMA, "critic_learning_rate": 1e-3, **small}
    config = {"iql": lambda: d3rlpy.algos.IQLConfig(**common, actor_learning_rate=1e-3, expectile=0.7, weight_temp=20.0),
              "cal_ql": lambda: d3rlpy.algos.CalQLConfig(**common, actor_learning_rate=3e-4, alpha_learning_rate=0.0, conservative_weight=1.0,
                                                         n_action_samples=5)}[algorithm]()
    learner, curve = config.create(device="cpu:0"), []

    def watch(algo: object, epoch: int, step: int) -> None:
        curve.append(success_of(lambda state: learner.predict(features(state))))

    learner.fit(data, n_steps=steps, n_steps_per_epoch=every, show_progress=False, epoch_callback=watch,
                logger_adapter=d3rlpy.logging.NoopAdapterFactory())
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="*", default=["iql", "cal_ql"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--episodes", type=int, default=150)
    parser.add_argument("--keep", type=Path, default=Path("runs/d3rlpy"), help="folder of finished curves; goes on from there")
    parser.add_argument("--curves", type=int, default=10**6, help="stop after so many new ones")
    parser.add_argument("--out", type=Path, default=Path("docs/results/rl_anchor.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/rl_anchor.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    episodes, every, left, rows, drawn = recorded(options.episodes), options.steps // POINTS, options.curves, [], {}
    options.keep.mkdir(parents=True, exist_ok=True)
    share = np.mean([won for *_, won in episodes])
    print(f"{len(episodes)} episodes, {sum(len(a) for _, a, _ in episodes)} transitions, {100 * share:.0f} % of the episodes succeed")
    for algorithm in options.algorithms:
        for name, learn in (("ours", ours), ("d3rlpy", theirs)):
            curves = []
            for seed in range(options.seeds):
                file = options.keep / f"{algorithm}-{name}-{seed}-{options.steps}.json"
                if not file.exists():
                    if not left:
                        return
                    write_json(file, learn(algorithm, episodes, seed, options.steps, every))
                    left -= 1
                curves.append(json.loads(file.read_text()))
                print(f"{algorithm}, {name}, seed {seed}: {curves[-1]}", flush=True)
            drawn[algorithm, name] = np.array(curves)
            rows += [row(algorithm, name, (i + 1) * every, np.array(curves)[:, i]) for i in range(POINTS)]
    save_rows(options.out, rows)
    draw(drawn, every, options.figure)


def draw(curves: dict[tuple[str, str], np.ndarray], every: int, path: Path) -> None:
    """Success by step: the mean of the seeds, and the span of them."""
    from matplotlib.figure import Figure

    names, colours = {"iql": "IQL", "cal_ql": "Cal-QL"}, {"ours": "#1f6feb", "d3rlpy": "#d29922"}
    algorithms = list(dict.fromkeys(algorithm for algorithm, _ in curves))
    figure = Figure(figsize=(4.2 * len(algorithms), 3.2), layout="constrained")
    for axes, algorithm in zip(figure.subplots(1, len(algorithms), squeeze=False)[0], algorithms, strict=True):
        for by, colour in colours.items():
            of_seeds = 100 * curves[algorithm, by]
            steps = every * np.arange(1, of_seeds.shape[1] + 1)
            axes.plot(steps, of_seeds.mean(0), "o-", color=colour, markersize=3, label=by)
            axes.fill_between(steps, of_seeds.min(0), of_seeds.max(0), color=colour, alpha=0.2, linewidth=0)
        axes.set(title=f"{names[algorithm]}, chunks of one action", xlabel="step", ylabel="success, %", ylim=(0, 100))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def row(algorithm: str, name: str, step: int, by_seed: np.ndarray) -> Row:
    found = rate(round(200 * by_seed.sum()), 200 * len(by_seed))
    print(f"  {algorithm}, {name}, step {step}: {percent(found)}")
    return {"cell": {"algorithm": algorithm, "step": str(step), "by": name}, "metric": "success", **found.to_dict(),
            "seeds": list(range(len(by_seed))), "recipe": "", "command": "python tests/interop/check_d3rlpy.py"}


if __name__ == "__main__":
    main()
