"""Hold a data set, a policy and a robot against each other before anything moves, and say in words what is wrong.

    findings = examine(data="data/pick", policy="runs/pick/policy", robot={"kind": "tabletop"})

Any one, two or all three may be given. Most of what goes wrong between them raises no error anywhere: a wrong scale, an action taken for
another kind, two channels swapped, a robot that only ever sees what it was not trained on. Each check looks at numbers for the trace
that one such mistake leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from robot_io import UserError
from robot_io.dataset import Dataset
from robot_io.specs import differences
from vla.doctor.columns import COLUMN_CHECKS, Columns
from vla.doctor.finding import Finding, bad, compare_specs, good
from vla.doctor.pictures import look_at_pictures


def examine(data: Path | str | None = None, policy: str | None = None, robot: dict[str, Any] | None = None) -> list[Finding]:
    """Everything that was found, in the order of looking: the data, the policy, the robot, and what they make of each other.

    Raises:
        UserError: nothing was given.
    """
    if data is None and policy is None and robot is None:
        raise UserError("vla doctor", "nothing to examine", "a data set, a policy, a robot", "pass --data, --policy or --robot")
    findings: list[Finding] = []
    columns = _data(Path(data), findings) if data is not None else None
    # The parts that open a policy or a robot bring torch or a simulator: only when they are asked for.
    source = driver = None
    if policy is not None:
        from vla.doctor.policy import examine_policy, open_policy

        source, driver = _try(findings, f"policy {policy}", lambda: open_policy(policy)) or (None, None)
        if source is not None:
            findings += examine_policy(source, driver)
            if columns is not None:
                from vla.doctor.skew import policy_on_data

                findings += compare_specs("policy and data", source.spec, columns.spec)
                if not differences(source.spec, columns.spec):
                    findings += policy_on_data(driver, columns)
    if robot is not None:
        from vla.doctor.robot import examine_robot

        findings += examine_robot(robot, columns, source, driver)
    return findings


def _data(root: Path, findings: list[Finding]) -> Columns | None:
    data = _try(findings, f"data set {root}", lambda: _checked(root))
    if data is None:
        return None
    findings.append(good("files", f"{len(data.episodes)} episodes, {len(data)} frames, complete and finite"))
    columns = Columns.of(data)
    for check in COLUMN_CHECKS:
        findings += check(columns)
    findings += look_at_pictures(data, columns)
    return columns


def _checked(root: Path) -> Dataset:
    data = Dataset(root)
    data.check(cameras=data.cameras)
    return data


def _try(findings: list[Finding], what: str, get: Callable[[], Any]) -> Any:
    """What `get` returns; if that is a user's mistake, None and a finding that says so."""
    try:
        return get()
    except UserError as error:
        findings.append(bad("opening", str(error) if error.thing in str(error) else f"{what}: {error}"))
        return None
