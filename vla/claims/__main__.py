"""`python -m vla.claims` writes `docs/claims.md` from `docs/results`; `--check` fails if it is not what the results say."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from robot_io import UserError
from vla.claims.claim import Finding, judge, shown
from vla.claims.ledger import CLAIMS
from vla.files import write_text
from vla.results import show

HEAD = """# Claims, tested

Each line is an ordering that a paper reports and that was tried here: on the tabletop, with a small backbone, on scenes that no training
saw. `holds` and `does not` are said only where the 95 % interval of the difference lies wholly on one side (of zero, or of the margin that
the claim names); the rest is `undecided`, which more trials may change. How the intervals are made stands in `vla/claims/claim.py`; the
list is `vla/claims/ledger.py`; this page is written by `python -m vla.claims` from `docs/results/*.json`.
"""


def page(results: Path) -> str:
    findings = [judge(claim, results) for claim in CLAIMS]
    counts = Counter(finding.verdict for finding in findings)
    said = {"holds": "hold", "does not": "do not", "undecided": "are undecided", "not measured": "are not measured yet"}
    tally = ", ".join(f"{counts[verdict]} {words}" for verdict, words in said.items() if counts[verdict])
    lines = [HEAD, f"{len(findings)} claims: {tally}.\n",
             "| | claim | here | against | difference | trials | verdict |", "| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    lines += [_line(finding) for finding in findings]
    lines += ["\n## How to reproduce\n", "| | source | our setting | table | command |", "| --- | --- | --- | --- | --- |"]
    lines += [_source(finding) for finding in findings]
    return "\n".join(lines) + "\n"


def _line(found: Finding) -> str:
    claim, metric = found.claim, found.claim.metric
    here = "–" if found.more is None else show(found.more)
    against = f"{shown(claim.bound, metric)}" if claim.bound is not None else "–" if found.less is None else show(found.less)
    against += "" if claim.ratio == 1 else f" × {claim.ratio:g}"
    difference = "–" if found.difference is None else (f"{shown(found.difference, metric, sign=True)} [{shown(found.low, metric, sign=True)}, "
                                                       f"{shown(found.high, metric, sign=True)}]")
    trials = " / ".join(str(row["n"]) for row in (found.more, found.less) if row is not None) or "–"
    verdict = f"**{found.verdict}**" if found.verdict in ("holds", "does not") else found.verdict
    return f"| {claim.id} | {claim.statement} | {here} | {against} | {difference} | {trials} | {verdict} |"


def _source(found: Finding) -> str:
    claim = found.claim
    command = f"`{found.more['command']}`" if found.more and found.more.get("command") else "–"
    return f"| {claim.id} | {claim.source} | {claim.setting or '–'} | `{claim.table}.json` ({claim.metric.replace('_', ' ')}) | {command} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m vla.claims", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the page is stale")
    parser.add_argument("--root", type=Path, default=Path(), help="where docs/ is")
    arguments = parser.parse_args()
    path = arguments.root / "docs" / "claims.md"
    try:
        made = page(arguments.root / "docs" / "results")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if path.is_file() and path.read_text() == made:
        return 0
    if arguments.check:
        print(f"{path}: stale; run `python -m vla.claims`", file=sys.stderr)
        return 1
    write_text(path, made)
    print(f"{path}: written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
