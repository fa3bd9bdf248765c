"""What a server counts, in Prometheus' text format (`GET /metrics`), through its own client library."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
OUTCOMES = ("answered", "refused", "late", "busy", "failed")


class Metrics:
    """Counters of one server: several may live in one process.

    Outcomes of a request: `answered`, `refused` (the request was wrong), `late` (its deadline had passed), `busy` (too many were
    waiting), `failed` (the policy raised).
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("vla_requests", "Requests by outcome", ("policy", "outcome"), registry=self.registry)
        self.infer = Histogram("vla_infer_seconds", "Time of one inference, whatever its batch", ("policy",), buckets=SECONDS,
                               registry=self.registry)
        self.wait = Histogram("vla_wait_seconds", "Time from a request's arrival to its inference", ("policy",), buckets=SECONDS,
                              registry=self.registry)
        self.batch = Histogram("vla_batch_size", "Requests computed together", ("policy",), buckets=(1, 2, 4, 8, 16, 32),
                               registry=self.registry)
        self.connections = Gauge("vla_connections", "Clients connected by websocket", registry=self.registry)
        self.reloads = Counter("vla_reloads", "Policies exchanged while serving, by outcome", ("policy", "outcome"),
                               registry=self.registry)

    def expose(self, policies: list[str]) -> bytes:
        """The page; every outcome of every policy is on it from the start, so that a rate has a zero to begin from."""
        for policy in policies:
            for outcome in OUTCOMES:
                self.requests.labels(policy, outcome)
        return generate_latest(self.registry)
