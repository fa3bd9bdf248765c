"""Execute the notebooks, all or those named, each in a fresh kernel, and keep their outputs.

    python notebooks/run.py --quick            # a few steps and trials each; nothing is written: what CI does
    python notebooks/run.py 01 03              # in full, outputs saved into the notebooks

A cell that fails stops the run with its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent
LIMIT = 3600
"""Seconds that one cell may take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of their names, for example 01; all if left out")
    parser.add_argument("--quick", action="store_true", help="few steps and trials, and do not save")
    options = parser.parse_args()
    if options.quick:
        os.environ["VLA_QUICK"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for path in sorted(HERE.glob("[0-9]*.ipynb")):
        if options.names and not path.name.startswith(tuple(options.names)):
            continue
        start, book = time.monotonic(), nbformat.read(path, as_version=4)
        try:
            NotebookClient(book, timeout=LIMIT, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
        except CellExecutionError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 1
        if not options.quick:
            nbformat.write(book, path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
