"""What fewer bits save and cost, on this machine's CPU, one thread.

    python benchmarks/quantisation.py POLICY      # docs/results/quantisation_{memory,speed}.json; then: python -m vla.results

`memory`: a language model of SmolLM2's sizes (a Llama; random weights, which weigh what trained ones do), its linear layers in each format,
its embeddings in bfloat16 or int8, against all of it in bfloat16. The smallest is made and measured; for the others the layers are
measured once and counted. `speed`: CPU milliseconds of eight layers of that width over 64 tokens (a prefix) and over one (decoding), and of
the policy at POLICY for one observation. CPU time, in turns, so that neither other programs nor a warm machine favour one format.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

from vla.evaluate.statistics import mean_of
from vla.policy import Policy
from vla.results import Row, save_rows
from vla.serve.fidelity import chunks, held_out
from vla.serve.quantize import EMBEDDING, LINEAR, layer_bytes, layers, quantize_policy

OUT = Path("docs/results")
COMMAND = "python benchmarks/quantisation.py"
SIZES = {"SmolLM2-135M": (576, 1536, 30, 9, 3), "SmolLM2-360M": (960, 2560, 32, 15, 5), "SmolLM2-1.7B": (2048, 8192, 24, 32, 32)}
"""Width, width of the feed-forward layers, layers, heads, heads of keys: from the published configurations."""
VOCABULARY = 49_152
SPEED = ("full", "bf16", "int8", "int8_dynamic", "int4", "nf4")


def llama(name: str, layer_count: int | None = None) -> LlamaModel:
    width, inner, count, heads, keys = SIZES[name]
    torch.manual_seed(0)
    return LlamaModel(LlamaConfig(vocab_size=VOCABULARY, hidden_size=width, intermediate_size=inner, num_hidden_layers=layer_count or count,
                                  num_attention_heads=heads, num_key_value_heads=keys)).eval().requires_grad_(False)


def convert(model: nn.Module, how: str, embeddings: str | None = None) -> nn.Module:
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and how != "full":
            model.set_submodule(name, LINEAR[how](module))
        elif type(module) is nn.Embedding and embeddings is not None:
            model.set_submodule(name, EMBEDDING[embeddings](module))
    return model


def weight(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def memory() -> list[Row]:
    rows = []
    for name in SIZES:
        with torch.device("meta"):
            shape = llama(name)
        total = sum(parameter.numel() for parameter in shape.parameters())
        linear = [module for module in shape.modules() if type(module) is nn.Linear]
        table = next(module.weight.numel() for module in shape.modules() if type(module) is nn.Embedding)
        rest = total - table - sum(module.weight.numel() for module in linear)
        for how in ("int8", "int4", "nf4"):
            for embeddings, each in (("bf16", 2), ("int8", 1)):
                bits = 8 * layer_bytes(LINEAR[how](nn.Linear(1024, 1024, bias=False))) / 2**20
                counted = sum(module.weight.numel() for module in linear) * bits / 8 + table * each + 2 * rest
                if name == "SmolLM2-135M":
                    made = convert(llama(name), how, embeddings)
                    for parameter in made.parameters():
                        if parameter.dtype == torch.float32:
                            parameter.data = parameter.data.bfloat16()
                    counted = weight(made)
                    del made
                cell = {"model": name, "linear layers": how, "embeddings": embeddings}
                rows += [row(cell, "megabytes", [counted / 1e6]), row(cell, "per_cent_of_bf16", [100 * counted / (2 * total)])]
    return rows


def speed(folder: str, repeats: int) -> list[Row]:
    rows = []
    models = {how: convert(llama("SmolLM2-360M", 8), how) for how in SPEED}
    for tokens in (64, 1):
        ids = torch.arange(tokens)[None]
        rows += turns(f"8 layers of SmolLM2-360M, {tokens} tokens", {how: partial(model, ids) for how, model in models.items()}, repeats)
    del models
    full = Policy.load(folder)
    batch = held_out(full, 1)[0]
    policies = {}
    for how in SPEED:
        policy = Policy.load(folder)
        policies[how] = quantize_policy(policy, {layer.group: how for layer in layers(policy)
                                                 if how in layer.formats and layer.group != "embeddings"})
    return rows + turns("pick, one observation", {how: partial(chunks, policy, [batch]) for how, policy in policies.items()}, 2 * repeats)


def turns(model: str, work: dict[str, Callable], repeats: int) -> list[Row]:
    """CPU milliseconds of each, and how much faster than full precision, turn by turn."""
    times: dict[str, list[float]] = {how: [] for how in work}
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            for how, run in work.items():
                began = time.process_time()
                run()
                if repeat:
                    times[how].append(1e3 * (time.process_time() - began))
    rows = []
    for how, measured in times.items():
        cell = {"model": model, "linear layers": how}
        rows.append(row(cell, "cpu_ms", measured))
        rows.append(row(cell, "times_as_fast", (np.array(times["full"]) / np.array(measured)).tolist()))
    return rows


def row(cell: dict[str, str], metric: str, values: list[float]) -> Row:
    return {"cell": cell, "metric": metric, **mean_of(values).to_dict(), "seeds": [], "recipe": "", "command": COMMAND}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="a policy folder whose demonstrations are at hand")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, rows in (("quantisation_memory", memory()), ("quantisation_speed", speed(options.policy, options.repeats))):
        save_rows(OUT / f"{name}.json", rows)
        for each in rows:
            print(name, *each["cell"].values(), each["metric"], f"{each['mean']:.3f} [{each['low']:.3f}, {each['high']:.3f}]", flush=True)


if __name__ == "__main__":
    main()
