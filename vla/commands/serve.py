"""`vla serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from robot_io import UserError
from vla.commands.shared import Json, named, tell


def serve(
    policies: Annotated[list[str], typer.Argument(metavar="[NAME=]POLICY...", help="A policy folder; several by name, the first "
                                                  "of which is for clients that name none.")],
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 picks a free one.")] = 8000,
    api_key_file: Annotated[Path | None, typer.Option(help="File with the clients' key; or set VLA_API_KEY.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM): clients then connect to wss://.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    openvla_port: Annotated[int | None, typer.Option(help="Also offer OpenVLA's POST /act there (8777 is usual).")] = None,
    gr00t_port: Annotated[int | None, typer.Option(help="Also offer GR00T's ZMQ protocol there (5555 is usual).")] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Exchange a policy when its folder changes, keeping all connections.")] = False,
    max_batch: Annotated[int, typer.Option(min=1, help="Robots' requests that are computed together.")] = 8,
    batch_wait_ms: Annotated[float, typer.Option(min=0, help="How long a request waits for those of other robots.")] = 5.0,
    device: Annotated[str, typer.Option(help="cpu or cuda; cuda:0,cuda:1 for a copy of the policy on each.")] = "cpu",
    replicas: Annotated[int, typer.Option(min=1, help="Copies of each policy on a device, in processes of their own: for several robots on a "
                                          "CPU, as many as it has cores.")] = 1,
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile for eye and head: a minute to start, faster from then on.")] = False,
    as_json: Json = False,
) -> None:
    """Serve policies: openpi's and vla-eval's websocket protocols on one port, others beside it. Ctrl-C ends it.

    Examples:

    - `vla serve runs/demo/policy --port 8000`

    - `vla serve fast=runs/fast/policy best=runs/best/policy --reload` (`ws://…/policies/best`; `/metrics`, `/readyz`)

    - `VLA_API_KEY=secret vla serve runs/demo/policy --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem`

    - `vla serve runs/demo/policy --replicas 4 --compile` (many robots, no GPU)

    - `vla serve runs/demo/policy --openvla-port 8777 --gr00t-port 5555`

    - `vla serve runs/demo/policy --port 0 --json` (prints where: `{"url": "ws://127.0.0.1:41234", …}`)
    """
    from vla.serve.listen import check_port

    key = _api_key(api_key_file)
    if (tls_cert is None) != (tls_key is None):
        raise UserError("TLS", "one of --tls-cert and --tls-key", "both", "give the certificate and its private key")
    for asked in (port, openvla_port, gr00t_port):
        if asked is not None:
            check_port(host, asked)
    from contextlib import ExitStack

    from vla.serve import Limits, PolicyServer
    from vla.serve.adapters.gr00t import Gr00tZmq
    from vla.serve.adapters.openvla import OpenVLARest
    from vla.serve.reload import reloading
    from vla.serve.replicas import serving_copy

    devices = replicas * device.split(",")

    def load(folder: Path) -> Any:
        return serving_copy(folder, devices, compile)

    folders = _folders(policies)
    adapters = {"openvla": None if openvla_port is None else OpenVLARest(openvla_port),
                "gr00t": None if gr00t_port is None else Gr00tZmq(gr00t_port)}
    loaded: Any = {name: load(folder) for name, folder in folders.items()}
    server = PolicyServer(loaded if len(loaded) > 1 else next(iter(loaded.values())), host, port, api_key=key,
                          tls=None if tls_cert is None or tls_key is None else (tls_cert, tls_key),
                          limits=Limits(max_batch=max_batch, batch_wait=batch_wait_ms / 1e3),
                          adapters=[adapter for adapter in adapters.values() if adapter is not None])

    def say() -> None:
        beside = {f"{name}_port": adapter.port for name, adapter in adapters.items() if adapter is not None}
        found = {"url": server.url, "port": server.port, "policy": policies[0], "policies": list(server.service.policies), **beside}
        also = "".join(f"; {name} at port {adapter.port}" for name, adapter in adapters.items() if adapter is not None)
        tell(found, as_json, f"serving {', '.join(policies)} at {server.url}{also}; Ctrl-C ends it")

    with ExitStack() as stack:
        if reload:
            served = dict(zip(server.service.policies, folders.values(), strict=True))
            stack.enter_context(reloading(server.service, served, load))
        try:
            server.serve_forever(say)
        finally:
            for policy in server.service.policies.values():
                if hasattr(policy, "close"):
                    policy.close()


def _folders(policies: list[str]) -> dict[str, Path]:
    """Folders by name; one alone needs none."""
    if len(policies) == 1 and (Path(policies[0]).is_dir() or "=" not in policies[0]):
        return {"": Path(policies[0])}
    folders: dict[str, Path] = {}
    for policy in policies:
        name, folder = named(policy, "best=runs/best/policy")
        if name in folders:
            raise UserError(f"policy '{name}'", "named twice", "a name of its own for each", "rename one")
        folders[name] = Path(folder)
    return folders


def _api_key(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("VLA_API_KEY") or None
    try:
        return file.read_text().strip() or None
    except OSError as error:
        raise UserError(f"API key file '{file}'", f"cannot be read ({error.strerror})", "a file with the key",
                        "check the path") from None
