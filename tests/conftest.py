"""One torch thread per process: the tests run side by side, and two threads beside a busy neighbour are slower than one.

In CI hypothesis draws the same examples every time, so that a change is judged by what it changed; elsewhere it explores.
"""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("explore", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "explore")
