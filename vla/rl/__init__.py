"""Chunked offline reinforcement learning: from a trained policy and recorded episodes, good and bad, to a better policy.

    data ──▶ transitions ──▶ algorithm (critic, actor) ──▶ policy folder, critic, diagnostics

One algorithm per file (`co_rft`, `q_chunking`, `edits`, `iql`, `cal_ql`); they share transitions (`data`, `returns`), the critic
(`heads.critic`), the loop and the diagnostics, and nothing else.
"""

from robot_io.registry import Registry

ALGORITHMS = Registry("algorithms", "vla.algorithms")
ALGORITHMS.add(
    "co_rft", "vla.rl.co_rft:CoRFT", "calibrated chunked TD, and the policy follows the critic's gradient",
    paper="CO-RFT (arXiv 2508.02219)", needs=("a deterministic head",), provides=("policy", "critic"))
ALGORITHMS.add(
    "cal_ql", "vla.rl.cal_ql:CalQL", "conservative Q-learning with log-sum-exp over actions, held up by Monte-Carlo returns",
    paper="Nakamoto et al., Cal-QL (arXiv 2303.05479)", provides=("policy", "critic"))
ALGORITHMS.add(
    "q_chunking", "vla.rl.q_chunking:QChunking", "the best of N chunks that imitation draws, or its distillation into one step",
    paper="Q-chunking (arXiv 2507.07969); FQL (arXiv 2502.02538)", needs=("a head that draws",), provides=("policy", "critic"))
ALGORITHMS.add(
    "edits", "vla.rl.edits:Edits", "small edits, up the critic, of chunks that imitation draws, and the best of N",
    paper="EXPO (arXiv 2507.07986)", needs=("a head that draws",), provides=("policy", "critic"))
ALGORITHMS.add(
    "iql", "vla.rl.iql:IQL", "expectile values and advantage-weighted regression, for any head",
    paper="Kostrikov et al., IQL (arXiv 2110.06169); AWR (arXiv 1910.00177)", provides=("policy", "critic"))

__all__ = ["ALGORITHMS"]
