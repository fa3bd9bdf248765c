"""Our intervals, paired test and adjustment against statsmodels', whose code shares none with scipy's, which ours calls.

    pip install statsmodels          # not a dependency of this project
    python tests/interop/check_statsmodels.py
"""

from __future__ import annotations

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from vla.evaluate.letters import holm
from vla.evaluate.statistics import compare, rate

THEIRS = {"wilson": "wilson", "jeffreys": "jeffreys", "clopper-pearson": "beta"}


def main() -> None:
    random, worst = np.random.default_rng(0), {"interval": 0.0, "mcnemar": 0.0, "holm": 0.0}
    for n in (5, 20, 100, 263):
        for k in range(n + 1):
            for ours, theirs in THEIRS.items():
                mine, (low, high) = rate(k, n, method=ours), proportion_confint(k, n, method=theirs)
                if ours != "jeffreys" or 0 < k < n:  # at the ends ours begins at 0 and ends at 1, as Brown, Cai and DasGupta have it
                    worst["interval"] = max(worst["interval"], abs(mine.low - low), abs(mine.high - high))
    for _ in range(200):
        a, b = random.random((2, 60)) < random.random((2, 1))
        table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
        ours = compare(dict(enumerate(a.tolist())), dict(enumerate(b.tolist()))).p_value
        worst["mcnemar"] = max(worst["mcnemar"], abs(ours - mcnemar(table, exact=True).pvalue))
        p_values = random.random(6) ** 3
        worst["holm"] = max(worst["holm"], np.abs(np.array(holm(p_values.tolist())) - multipletests(p_values, method="holm")[1]).max())
    print({name: f"{value:.1e}" for name, value in worst.items()})
    assert max(worst.values()) < 1e-9, worst


if __name__ == "__main__":
    main()
