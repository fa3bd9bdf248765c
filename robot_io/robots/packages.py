"""Importing a driver that not everybody has, with an error that says how to get it."""

from __future__ import annotations

import importlib
from types import ModuleType

from robot_io.errors import UserError


def need(module: str, for_what: str, remedy: str) -> ModuleType:
    """Import `module`, or say who needs it and how it is installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(for_what, f"needs '{module}', which cannot be imported ({error})", "it to be installed", remedy) from None
