"""The training step: `vla.train` against a bare PyTorch loop of the same policy on batches that lie in memory; and waiting for data.

Both take forward, backward, clipping and AdamW; ours also fetches the batch, schedules the learning rate and logs. No moving average. The
preset `raw`: frozen eye, features cached.
"""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.peer import Peer
from benchmarks.rounds import Measured, Ratio, cpu_seconds
from vla.recipe import load_recipe
from vla.train.display import Display
from vla.train.loop import Trainer
from vla.train.run import Run

ROUNDS, WARM = 25, 3
WHAT = "training step (raw, batch of 32)"


def measure(data: Path, episodes: int, scratch: Path, peer: Peer) -> list[Measured | Ratio]:
    recipe = load_recipe("raw", [f"data.root={data}", "train.ema=null", f"data.cache={scratch / 'cache'}"])
    trainer = Trainer(recipe, Run(recipe, scratch / "run"), Display(False))
    trainer._open_pictures()
    policy, optimizer = trainer.policy, trainer.optimizer
    batches = [trainer.samples(trainer.demonstrations.order(step)) for step in range(4)]
    parameters = list(policy.parameters())

    def bare(step: int) -> None:
        samples = batches[step % len(batches)]
        loss = policy.loss(samples.batch, samples.actions, samples.valid, samples.percept).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.train.grad_clip)
        optimizer.step()
        optimizer.zero_grad()

    ours, theirs, waits = [], [], []
    for step in range(ROUNDS + WARM):  # in turns, so that both see the same machine
        policy.train()
        theirs.append(1e3 * cpu_seconds(lambda step=step: bare(step)))
        with trainer.meter.step():
            ours.append(1e3 * cpu_seconds(lambda step=step: trainer.advance(step)))
        waits.append(100 * trainer.meter.read(1)["data_wait"])
    ours, theirs, waits = ours[WARM:], theirs[WARM:], waits[WARM:]
    return [Measured("stepping", WHAT, "swapvla", "cpu_ms", ours), Measured("stepping", WHAT, "bare loop", "cpu_ms", theirs),
            Ratio("stepping", f"{WHAT}: speed against the bare loop", theirs, ours),
            Measured("stepping", "waiting for data", "swapvla", "per_cent_of_the_step", waits)]
