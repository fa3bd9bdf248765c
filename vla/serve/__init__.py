"""Serving policies to robots on other machines."""

from vla.serve.limits import Limits
from vla.serve.listen import check_port
from vla.serve.server import PolicyServer

__all__ = ["Limits", "PolicyServer", "check_port"]
