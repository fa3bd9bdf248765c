"""Every ratio that this project claims about speed, measured in one run, each side in the same way.

    python -m benchmarks --lerobot /tmp/lerobot_env/bin/python     # tests/interop/check_lerobot.py says how to make that environment
    python -m benchmarks loading recording                         # only these parts

Writes docs/results/speed.json and benchmarks/results.md. One thread; medians of rounds with bootstrap intervals; seconds are CPU seconds
of the process, so that what else the machine does matters less. Without `--lerobot` LeRobot's side is left out.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import torch

from benchmarks import caching, crews, loading, memory, recording, stepping
from benchmarks.peer import Peer
from benchmarks.rounds import Measured, Ratio, rows_of
from vla.files import write_text
from vla.results import load_rows, markdown, save_rows

OUT, PAGE = Path("docs/results/speed.json"), Path("benchmarks/results.md")


def main() -> None:
    parts = {"recording": recording.measure, "loading": loading.measure, "stepping": stepping.measure,
             "caching": caching.measure, "crews": crews.measure, "memory": memory.measure}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="what to measure; everything if left out")
    parser.add_argument("--lerobot", help="an interpreter that has lerobot==0.4.4")
    parser.add_argument("--data", type=Path, help="demonstrations of the tabletop; collected if left out")
    parser.add_argument("--episodes", type=int, default=10, help="of the demonstrations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = arguments.parts or list(parts)
    found: list[Measured | Ratio] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = arguments.data or collected(scratch / "data", arguments.episodes)
        for name in chosen:
            found += parts[name](data, arguments.episodes, scratch, Peer(arguments.lerobot))
    measured = rows_of(found, "python -m benchmarks")
    cells = [row["cell"] for row in measured]
    rows = [row for row in (load_rows(OUT) if OUT.exists() else []) if row["cell"] not in cells] + measured
    rows.sort(key=lambda row: list(parts).index(row["cell"]["part"]))
    save_rows(OUT, rows)
    table = markdown(rows)
    write_text(PAGE, f"# Speed\n\nMade by `python -m benchmarks` on {os.cpu_count()} cores (one thread used), torch {torch.__version__}; "
                     f"medians.\n\n{table}\n")
    print(table)


def collected(root: Path, episodes: int) -> Path:
    from vla.collect import collect
    from vla.recipes.pick import CLEAN

    collect(CLEAN, root, episodes=episodes, noise=0.05, workers=1)
    return root


if __name__ == "__main__":
    main()
