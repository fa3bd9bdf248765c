"""What `sample` costs beside the bare passes of the head's network, and what torch.compile gains on the CPU.

    python benchmarks/heads_sample.py               # then: python -m vla.results
    python benchmarks/heads_sample.py --compiled    # minutes: torch.compile takes its time

One chunk for one observation, random weights, the sizes of `vla.grids.heads` on `tiny`. `bare` calls the network as often as `sample` must,
and does nothing else: no noise, no solver, no grammar. All are CPU milliseconds of one thread, and what is compared is taken in turn, so that
a busy machine slows both alike; ratios are geometric means over repetitions. `train` is loss and gradients of the head alone for 32 samples.
With `--compiled`, `sample` with its network through torch.compile (inductor) beside the same without, and nothing else. Rows
are merged into `docs/results/heads_sample.json`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from backbones.context import Context
from backbones.continuation import run
from heads import HEADS
from heads.diffusion import Diffusion
from heads.fast import Fast
from heads.flow import Flow
from heads.head import Head, Output
from heads.one_step import OneStep
from vla.evaluate.statistics import Rate, mean_of
from vla.grids.heads import heads as grid
from vla.results import merge_rows

OUTPUT = Output(horizon=8, action_dim=7, context_dim=128, queries=4)
WORDS, BATCH = 20, 32
COMMAND = "python benchmarks/heads_sample.py"


def context(batch: int) -> Context:
    """Of the shape that `tiny` gives: words, state and queries; three layers of four heads."""
    torch.manual_seed(0)
    length = WORDS + 1 + OUTPUT.queries
    hidden = torch.randn(batch, length, OUTPUT.context_dim)
    layers = tuple(tuple(torch.randn(2, batch, 4, length, OUTPUT.context_dim // 4)) for _ in range(3))
    return Context(hidden, torch.ones(batch, length, dtype=torch.bool), hidden[:, -OUTPUT.queries:], layers)


def heads() -> dict[str, Head]:
    """Those of the grid, untrained but stirred, in evaluation mode."""
    made: dict[str, Head] = {}
    for cell in grid().cells:
        options: dict[str, Any] = {"kind": "diffusion"}
        for override in cell.overrides:
            path, _, value = override.partition("=")
            (options := dict(yaml.safe_load(value))) if path == "head" else options.update({path.split(".")[1]: yaml.safe_load(value)})
        if cell.student is not None:
            options = {"kind": "one_step"}
        torch.manual_seed(0)
        config = HEADS.configure(options)
        head = HEADS.load(config.kind)(config, OUTPUT).eval()
        for weight in head.parameters():
            torch.nn.init.normal_(weight, std=0.05)
        chunks = torch.randn(500, OUTPUT.horizon, 1).cumsum(1).expand(-1, -1, OUTPUT.action_dim) / 5
        head.study(lambda chunks=chunks: (chunks.clamp(-1, 1), torch.ones(chunks.shape[:2], dtype=torch.bool)))
        made[f"{cell.levels['head']} ({cell.levels['network']})"] = head
    return made


def bare(head: Head, seen: Context) -> Callable[[], object]:
    """Just the network, as often as one sample calls it."""
    chunk = torch.randn(1, OUTPUT.horizon, OUTPUT.action_dim)
    one = torch.ones(1)
    if isinstance(head, Diffusion):
        return lambda: _often(head.config.steps, head.denoiser, chunk, one, head.denoiser.condition(seen))
    if isinstance(head, Flow | OneStep):
        steps = head.config.steps if isinstance(head, Flow) else 1
        return lambda: _often(steps, head.expert, chunk, one, head.expert.condition(seen))
    if isinstance(head, Fast):
        return lambda: _decode(head, seen, tokens=fast_length(head, seen))
    return lambda: head.trunk(seen) if hasattr(head, "trunk") else head.logits(seen)


def _often(times: int, network: torch.nn.Module, *arguments: object) -> None:
    for _ in range(times):
        network(*arguments)


def fast_length(head: Fast, seen: Context) -> int:
    """How many tokens the greedy chunk takes. Counted once."""
    if not hasattr(head, "length"):
        calls: list[int] = []
        hook = head.decoder.get_decoder().register_forward_hook(lambda *_: calls.append(1))
        head.sample(seen)
        hook.remove()
        head.length = len(calls)
    return head.length


def _decode(head: Fast, seen: Context, tokens: int) -> None:
    """The prompt, and then a token at a time, always the same."""
    going_on, _ = head.speaker(seen, cached=True)
    mask, token = going_on.mask, torch.zeros(1, 1, dtype=torch.long)
    going_on.logits(going_on.last)
    for _ in range(tokens - 1):
        mask = torch.cat([mask, mask.new_ones(1, 1)], 1)
        hidden = run(head.decoder, head.decoder.get_input_embeddings()(token), mask, going_on.cache)
        going_on.logits(hidden[:, 0])


def in_turn(functions: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """CPU milliseconds of each call, the functions called in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for repeat in range(repeats + 3):
        for function, measured in zip(functions, times, strict=True):
            began = time.thread_time()
            function()
            if repeat >= 3:
                measured.append(1e3 * (time.thread_time() - began))
    return times


def compiled(head: Head) -> Head:
    """A copy whose network is compiled. FAST's sees another length at every token, and is compiled for all of them at once."""
    head = deepcopy(head)
    if head.repeated:
        head.get_submodule(head.repeated).compile()
    elif isinstance(head, OneStep):
        head.expert.compile()
    elif isinstance(head, Fast):
        head.decoder.get_decoder().compile(dynamic=True)
    else:
        (head.trunk if hasattr(head, "trunk") else head.decoder).compile()
    return head


def training(head: Head) -> Callable[[], object]:
    """A training step of the head, but for the optimizer."""
    seen, steps = context(BATCH), torch.ones(BATCH, OUTPUT.horizon, dtype=torch.bool)
    actions = torch.randn(BATCH, OUTPUT.horizon, 1).cumsum(1).expand(-1, -1, OUTPUT.action_dim) / 5

    def step() -> None:
        head.train()
        head.loss(seen, actions.clamp(-1, 1), steps).total.backward()
        head.zero_grad()
        head.eval()

    return step


def percent_of(these: list[float], those: list[float]) -> Rate:
    """The geometric mean of the ratios of what was taken in turn."""
    logs = mean_of([math.log(a / b) for a, b in zip(these, those, strict=True)])
    return replace(logs, mean=100 * math.exp(logs.mean), low=100 * math.exp(logs.low), high=100 * math.exp(logs.high))


def beside_bare(head: Head, repeats: int) -> dict[str, Rate]:
    with torch.inference_mode():
        seen = context(1)
        whole, passes = in_turn([lambda: head.sample(seen), bare(head, seen)], repeats)
    metrics = {"sample_ms": mean_of(whole), "bare_ms": mean_of(passes), "percent_of_bare": percent_of(whole, passes)}
    if not isinstance(head, OneStep):
        (steps,) = in_turn([training(head)], max(5, repeats // 10))
        metrics["train_ms"] = mean_of(steps)
    return metrics


def beside_eager(head: Head, repeats: int) -> dict[str, Rate]:
    with torch.inference_mode():
        seen, fast = context(1), compiled(head)
        quick, plain = in_turn([lambda: fast.sample(seen), lambda: head.sample(seen)], repeats)
    return {"compiled_percent_of_eager": percent_of(quick, plain)}


def measure(name: str, head: Head, repeats: int, compile_too: bool) -> list[dict[str, Any]]:
    """Rows of one head."""
    metrics = (beside_eager if compile_too else beside_bare)(head, repeats)
    return [{"cell": {"head": name}, "metric": metric, **rate.to_dict(), "seeds": [], "recipe": "", "command": COMMAND}
            for metric, rate in metrics.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/heads_sample.json"))
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--compiled", action="store_true", help="beside eager, instead of beside the bare network")
    parser.add_argument("--only", nargs="*", help="names of heads; all if left out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, head in heads().items():
        if arguments.only is None or name in arguments.only:
            rows = measure(name, head, arguments.repeats, arguments.compiled)
            print(name, {row["metric"]: round(row["mean"], 2) for row in rows}, flush=True)
            merge_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
