"""Imitation training. `train(recipe, run_dir)` continues by itself after a kill; see `vla.train.loop`."""

from vla.train.loop import train
from vla.train.run import TrainResult

__all__ = ["TrainResult", "train"]
