"""One of several processes that train together: `torchrun … crew_side.py RECIPE.yaml RUN [RECIPE.yaml RUN …]`."""

import sys
from pathlib import Path

import torch

from vla.recipe import Recipe
from vla.train import train

if __name__ == "__main__":
    torch.set_num_threads(1)
    for recipe, run in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        train(Recipe.from_yaml(Path(recipe)), run, progress=False)
    torch.distributed.destroy_process_group()
