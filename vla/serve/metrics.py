"""What a server counts, in Prometheus' text format (`GET /metrics`), through its own client library."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
OUTCOMES = ("answered", "refused", "late", "busy", "failed")


@dataclass(frozen=True)
class OfPolicy:
    """One policy's: looking a label up costs as much as counting."""

    infer: Histogram
    wait: Histogram
    batch: Histogram
    requests: dict[str, Counter]


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
        self._of: dict[str, OfPolicy] = {}

    def of(self, policy: str) -> OfPolicy:
        """What is counted of that policy; `requests` by outcome."""
        if policy not in self._of:
            requests = {outcome: self.requests.labels(policy, outcome) for outcome in OUTCOMES}
            self._of[policy] = OfPolicy(self.infer.labels(policy), self.wait.labels(policy), self.batch.labels(policy), requests)
        return self._of[policy]

    def expose(self, policies: list[str]) -> bytes:
        """The page; every outcome of every policy is on it from the start, so that a rate has a zero to begin from."""
        for policy in policies:
            self.of(policy)
        return generate_latest(self.registry)
