"""Exchange a policy when its folder changes. A folder is replaced in one piece (`vla.sealed`), so what is found is complete."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robot_io import UserError
from vla.sealed import seal_of
from vla.serve.service import Service

LOG = logging.getLogger("vla.serve")


@contextmanager
def reloading(service: Service, folders: Mapping[str, Path], load: Callable[[Path], Any], every: float = 2.0) -> Iterator[Callable[[], None]]:
    """Look at the folders every so many seconds, in a thread of its own; yields a function that makes it look at once.

    A policy that cannot be loaded, or that does not fit, is a line in the log; the old one goes on.

    Args:
        load: opens a policy folder.
    """
    look, ended = threading.Event(), threading.Event()
    seen = {name: seal_of(folder) for name, folder in folders.items()}

    def watch() -> None:
        while not ended.is_set():
            look.wait(every)
            look.clear()
            for name, folder in folders.items():
                if (now := seal_of(folder)) in (None, seen[name]) or ended.is_set():
                    continue
                seen[name] = now
                try:
                    service.reload(name, load(folder))
                except UserError as error:
                    LOG.error("policy '%s' stays as it is: %s", name, error)
                except Exception:
                    LOG.exception("policy '%s' stays as it is: %s cannot be loaded", name, folder)

    thread = threading.Thread(target=watch, name="reload", daemon=True)
    thread.start()
    try:
        yield look.set
    finally:
        ended.set()
        look.set()
        thread.join()
