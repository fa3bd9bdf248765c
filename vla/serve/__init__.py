"""Serving a policy to robots on other machines."""

from vla.serve.listen import check_port
from vla.serve.server import PolicyServer

__all__ = ["PolicyServer", "check_port"]
