"""One torch thread per process: the tests run side by side, and two threads beside a busy neighbour are slower than one."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
