"""Train `tiny`'s byte-level BPE on the phrases a tabletop robot hears: `python -m backbones.tiny.train_tokenizer`.

Deterministic; the result is committed as `weights/tokenizer.json`, and the weights are tied to it.
"""

from __future__ import annotations

from itertools import product

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from backbones.tiny.text import TOKENIZER, VOCABULARY

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink", "brown", "black", "white", "gray")
SHAPES = (
    "cube",
    "ball",
    "cylinder",
    "block",
    "bowl",
    "cross",
    "pyramid",
    "ring",
    "cup",
    "bar",
    "box",
    "plate",
    "object",
)
PHRASES = (
    "pick up the {c} {s}",
    "grasp the {c} {s}",
    "lift the {c} {s}",
    "take the {c} {s} from the table",
    "get the {c} {s}",
    "put the {c} {s} in the bowl",
    "place the {c} {s} on the plate",
    "move the {c} {s} to the left of the {s}",
    "grab the {c} {s} please",
    "is there a {c} {s} on the table?",
    "where is the {c} {s}?",
    "what colour is the {s}?",
    "how many {c} {s}s are there?",
    "a {c} {s} in front of the robot, behind the {s}",
    "the {s} on the right",
    "the {s} in the middle",
    "the gripper is open above the {c} {s}",
    "the gripper holds the {c} {s}",
    "yes no none one two three four five six seven",
)


def main() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["[PAD]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [phrase.format(c=c, s=s) for phrase, c, s in product(PHRASES, COLOURS, SHAPES)]
    tokenizer.train_from_iterator(corpus, trainer)
    TOKENIZER.parent.mkdir(exist_ok=True)
    tokenizer.save(str(TOKENIZER))
    print(f"{tokenizer.get_vocab_size()} tokens → {TOKENIZER}")


if __name__ == "__main__":
    main()
