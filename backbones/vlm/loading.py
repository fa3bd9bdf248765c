"""From a checkpoint's name to its configuration, processor and weights, with one clear error where something is not there.

A checkpoint is a local folder or a hub id (`HF_HUB_OFFLINE` is respected by the hub's client). Weights are safetensors only,
matched by name, and nothing is skipped but the language-model head, which a backbone does not have. Code from a checkpoint is
never run. A saved policy carries its own `assets`: the model's configuration and the processor's files, no weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.initialization import no_init_weights
from transformers.utils import logging

from backbones.vlm.published import PUBLISHED
from robot_io import UserError

HEAD = re.compile(r"(^|\.)lm_head\.(weight|bias)$")


@dataclass(frozen=True)
class Source:
    """Where a checkpoint is: a folder or a hub id, and its revision there."""

    checkpoint: str
    revision: str | None = None

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Turn the library's many ways of saying that `what` is not there, or not readable, into one."""
        try:
            yield
        except ImportError as error:
            raise UserError(
                f"checkpoint '{self.checkpoint}'",
                f"its {what} needs a package that is not installed: {_first_line(error)}",
                "the packages of the checkpoint's processor",
                "run: pip install 'swapvla[all]'",
            ) from error
        except (OSError, ValueError) as error:
            where = (
                f"in that folder ({_first_line(error)})"
                if Path(self.checkpoint).is_dir()
                else f"neither in a folder of that name nor on the hub or in its cache ({_first_line(error)})"
            )
            raise UserError(
                f"checkpoint '{self.checkpoint}'",
                f"cannot read its {what} {where}",
                "a folder with config.json, *.safetensors and the processor's files, or a hub id",
                self._remedy(),
            ) from error

    def _remedy(self) -> str:
        known = next((p for p in PUBLISHED if p.checkpoint.lower().endswith(Path(self.checkpoint).name.lower())), None)
        if known and known.made_by:
            return f"run `{known.made_by}` and set backbone.checkpoint={known.checkpoint}"
        repository = known.checkpoint if known else self.checkpoint
        if known is None and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.checkpoint):
            repository = "OWNER/NAME (see `vla list backbones`)"
        folder = f"models/{Path(self.checkpoint).name}"
        gate = " (gated: first accept its licence on its page, then `hf auth login`)" if known and known.gated else ""
        return (
            f"run `hf download {repository} --local-dir {folder}` where there is a network{gate}, bring the folder here "
            f"and set backbone.checkpoint={folder}"
        )

    def config(self) -> Any:
        with self.reading("config.json"):
            return AutoConfig.from_pretrained(self.checkpoint, revision=self.revision, trust_remote_code=False)

    def processor(self) -> Any:
        with self.reading("processor (preprocessor_config.json, tokenizer.json, …)"):
            processor = AutoProcessor.from_pretrained(self.checkpoint, revision=self.revision, trust_remote_code=False)
            if not hasattr(processor, "image_processor"):
                raise ValueError(f"only a {type(processor).__name__} is there")
            return processor

    def weights(self, config: Any, dtype: torch.dtype, attention: str | None) -> nn.Module:
        """The model without its language-model head, with every published weight in place.

        Raises:
            UserError: no weights there, or weights that are missing, left over or of another shape.
        """
        with self.reading("weights (model.safetensors)"), _quiet():
            model, report = AutoModel.from_pretrained(
                self.checkpoint,
                revision=self.revision,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        wrong = [f"'{name}' is missing" for name in report["missing_keys"]]
        wrong += [f"'{name}' belongs nowhere" for name in report["unexpected_keys"] if not HEAD.search(name)]
        wrong += [f"'{name}' is {tuple(found)}, not {tuple(ours)}" for name, found, ours in report["mismatched_keys"]]
        if wrong:
            raise UserError(
                f"checkpoint '{self.checkpoint}'",
                "; ".join(sorted(wrong)[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""),
                "exactly the weights of its config.json",
                "download it again, or take the checkpoint's transformers version",
            )
        return model


def build(config: Any, dtype: torch.dtype, attention: str | None, *, initialise: bool) -> nn.Module:
    """The architecture alone; without `initialise` its weights are whatever the memory held, for who fills them next."""
    with nullcontext() if initialise else no_init_weights():
        try:
            model = AutoModel.from_config(config, dtype=dtype, attn_implementation=attention, trust_remote_code=False)
        except ValueError as error:
            raise UserError(
                "backbone vlm",
                _first_line(error),
                "an architecture that can be built",
                "leave backbone.attention out, or correct backbone.config",
            ) from error
    model.tie_weights()
    return model


def from_dict(config: dict[str, Any]) -> Any:
    """A transformers configuration from `{"model_type": …, …}`.

    Raises:
        UserError: no such model type, or values it refuses.
    """
    values = dict(config)
    try:
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            "backbone.config",
            f"not a configuration ({_first_line(error)})",
            "model_type and its fields, as in a config.json",
            "correct it",
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """The library's own report of keys says less than ours, and always mentions the head."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")[:200]
