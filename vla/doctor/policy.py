"""Opening a policy for examination, and what can be said of it alone."""

from __future__ import annotations

from collections.abc import Iterator

from robot_io.robot import Driver
from vla.doctor.finding import Finding, bad, good, odd
from vla.evaluate.drivers import Source, find, open_driver


def open_policy(name: str) -> tuple[Source, Driver]:
    """A policy folder or a served policy, and a driver of it.

    Raises:
        UserError: it cannot be opened, or is a script that knows no robot.
    """
    from robot_io import UserError

    source = find(name)
    if source.spec is None:
        raise UserError(f"policy '{name}'", "does not say what robot it is for", "a policy folder or a server", "examine one of these")
    return source, open_driver(source, None)


def examine_policy(source: Source, driver: Driver) -> Iterator[Finding]:
    rate = source.spec.action.rate_hz
    yield good("policy", f"for robot '{source.spec.robot}' with cameras {', '.join(source.spec.observation.camera_names)}, {rate:g} Hz, "
               f"{source.execute} steps carried out per chunk ({source.execute / rate:.2f} s)")
    normalizer = getattr(driver, "normalizer", None)  # a server keeps its own
    if normalizer is None:
        return
    for what, affine in (("action", normalizer.action), ("state", normalizer.state)):
        if affine is None:
            continue
        for name, spread, low, high in zip(affine.statistics.names, affine.spread.tolist(), affine.statistics.values["min"],
                                           affine.statistics.values["max"], strict=True):
            if spread == 0:
                yield odd("normalisation", f"{what} '{name}' never changed in training (always {low:.4g}); the policy "
                          + ("will always command that" if what == "action" else "does not see it"), "fine if it is meant")
            elif high - low > 50 * spread:
                yield bad("normalisation", f"{what} '{name}' is scaled by {spread:.3g}, but went from {low:.4g} to {high:.4g}: outliers "
                          "stretch it, or its statistics are of something else", "look at the data with vla doctor --data")
