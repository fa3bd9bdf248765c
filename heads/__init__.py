"""Context → ActionChunk. See `heads.head` for the contract."""

from robot_io.registry import Registry

HEADS = Registry("heads", "vla.heads")
HEADS.add(
    "tokens",
    "heads.tokens:Tokens",
    "discretised action chunk, every token decoded in one parallel pass",
    paper="OpenVLA (arXiv 2406.09246, sec. 3.2); parallel decoding: OpenVLA-OFT (arXiv 2502.19645)",
    needs=("readout",),
    provides=("chunk", "log-probability"),
)
HEADS.add(
    "diffusion",
    "heads.diffusion:Diffusion",
    "a chunk denoised by an MLP, a U-Net or a DiT, with DDPM, DDIM or DPM-Solver",
    paper="Chi et al., Diffusion Policy (arXiv 2303.04137); VO-DP (arXiv 2510.15530)",
    needs=("readout",),
    provides=("chunk", "noise", "guide", "prefix"),
)
HEADS.add(
    "vocabulary",
    "heads.vocabulary:Vocabulary",
    "action tokens of the language model's own vocabulary, decoded one after the other",
    paper="OpenVLA (arXiv 2406.09246, sec. 3.2)",
    needs=("continuation",),
    provides=("chunk", "log-probability"),
)
HEADS.add(
    "vocabulary_parallel",
    "heads.vocabulary:ParallelVocabulary",
    "the same tokens, all of them read out in one pass",
    paper="OpenVLA-OFT (arXiv 2502.19645, sec. 4)",
    needs=("readout", "continuation"),
    provides=("chunk", "log-probability"),
)
HEADS.add(
    "fast",
    "heads.fast:Fast",
    "a chunk as a few FAST tokens (cosine transform and byte-pair encoding), decoded one after the other by a small decoder",
    paper="Pertsch et al., FAST (arXiv 2501.09747)",
    needs=("readout",),
    provides=("chunk",),
)
HEADS.add(
    "vocabulary_fast",
    "heads.vocabulary_fast:VocabularyFast",
    "FAST tokens as the last ids of the language model's own vocabulary, decoded one after the other",
    paper="Pertsch et al., FAST (arXiv 2501.09747)",
    needs=("continuation",),
    provides=("chunk",),
)
HEADS.add(
    "regression",
    "heads.regression:Regression",
    "the chunk regressed in one pass (L1, MSE or Huber), the gripper optionally a decision",
    paper="OpenVLA-OFT (arXiv 2502.19645, sec. 4); VLM4VLA (arXiv 2601.03309)",
    needs=("readout",),
    provides=("chunk",),
)
HEADS.add(
    "pi0",
    "heads.pi0:PI0",
    "π0's action expert, 0.3 B: flow matching, attending to every layer of π0's VLM (backbone.kind=pi0)",
    paper="Black et al., π0 (arXiv 2410.24164)",
    needs=("layers",),
    provides=("chunk", "noise", "prefix"),
)
HEADS.add(
    "flow",
    "heads.flow:Flow",
    "flow-matched action chunk: Beta-distributed time, Euler, Heun or midpoint steps, a small action expert of choice",
    paper="Black et al., π0 (arXiv 2410.24164); Lipman et al. (arXiv 2210.02747)",
    needs=("hidden",),
    provides=("chunk", "noise", "guide", "prefix"),
)
HEADS.add(
    "one_step",
    "heads.one_step:OneStep",
    "student of a flow or diffusion head: the chunk in one pass of the network; made by `vla distill`",
    paper="Park et al., Flow Q-Learning (arXiv 2502.02538, sec. 4)",
    needs=("hidden",),
    provides=("chunk", "noise"),
)

HEADS.add(
    "best_of",
    "heads.best_of:BestOf",
    "the best of N chunks that another head draws, by a critic; what `vla rl q_chunking` makes",
    paper="Q-chunking (arXiv 2507.07969, sec. 4.1)",
    needs=("readout",),
    provides=("chunk",),
)
HEADS.add(
    "edited",
    "heads.edited:Edited",
    "the best of N chunks that another head draws and of small edits of them, by a critic; what `vla rl edits` makes",
    paper="EXPO (arXiv 2507.07986)",
    needs=("readout",),
    provides=("chunk",),
)
__all__ = ["HEADS"]
