"""FAST (Pertsch et al., arXiv 2501.09747, sec. V): a chunk of actions as a few tokens, and back.

Along time, the chunk goes through an orthonormal discrete cosine transform; the coefficients, scaled and rounded, are written down
lowest frequency first, one character each, and byte-pair encoding makes frequent runs of characters one token. The arithmetic and the
files (`processor_config.json`, `tokenizer.json`) are those of the published `physical-intelligence/fast`: its folder loads here
without running its code, and what is trained here is written in the same way.

Shapes: B chunks, T = horizon, A action dimensions; a chunk is N = T·A characters. Actions are in [-1, 1], or near it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from robot_io import UserError

SETTINGS, TOKENIZER = "processor_config.json", "tokenizer.json"
LARGEST = 0x7FF
"""The last character that UTF-8 writes in two bytes; so tokens end within a character by at most one byte. Coefficients reach it
at 169 (`scale` 10, the published `min_token`), a chunk in [-1, 1] at most √T."""


@dataclass(frozen=True)
class FastTokenizer:
    """A trained tokenizer.

    Attributes:
        bpe: byte-level, over text.
        scale: of the coefficients before rounding; the error of a coefficient is at most 0.5 / scale.
        min_token, max_token: the range of rounded coefficients; those outside are clipped. The first is character 0.
    """

    bpe: Tokenizer
    scale: float
    min_token: int
    max_token: int

    @classmethod
    def train(cls, chunks: Float[Tensor, "b t a"], *, scale: float = 10.0, vocabulary: int = 1024) -> FastTokenizer:
        """The tokenizer of at most `vocabulary` tokens that writes these chunks shortest.

        Raises:
            UserError: the vocabulary is too small even for single characters.
        """
        rounded = coefficients(chunks, scale)
        low, high = int(rounded.min()), int(rounded.max())
        if high - low > LARGEST:
            raise UserError("FAST tokenizer", f"coefficients from {low} to {high}", f"a range of at most {LARGEST}",
                            "normalise the actions, or lower the scale")
        written = bytes_to_unicode()
        alphabet = sorted({written[byte] for symbol in range(high - low + 1) for byte in chr(symbol).encode()})
        if vocabulary < len(alphabet):
            raise UserError("FAST tokenizer", f"a vocabulary of {vocabulary}", f"at least {len(alphabet)}, one for each byte",
                            f"raise it, or lower the scale ({scale:g})")
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        bpe.train_from_iterator(_texts(rounded - low), trainers.BpeTrainer(
            vocab_size=vocabulary, min_frequency=2, show_progress=False, initial_alphabet=alphabet, max_token_length=10_000))
        return cls(bpe, scale, low, high)

    @classmethod
    def load(cls, folder: Path) -> FastTokenizer:
        """One that was saved here, or the published one.

        Raises:
            UserError: a file is missing or not what it should be.
        """
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            bpe = Tokenizer.from_str((folder / TOKENIZER).read_text(encoding="utf-8"))
            low = int(settings["min_token"])
            return cls(bpe, float(settings["scale"]), low, int(settings.get("max_token", low + LARGEST)))
        except Exception as error:  # tokenizers raises bare Exception
            raise UserError(f"FAST tokenizer {folder}", f"cannot be read ({type(error).__name__}: {error})",
                            f"{SETTINGS} and {TOKENIZER}, as in physical-intelligence/fast",
                            "run `hf download physical-intelligence/fast --local-dir DIR` where there is a connection") from None

    def save(self, folder: Path) -> None:
        """Write both files into `folder`, which exists."""
        settings = {"scale": self.scale, "vocab_size": self.size, "min_token": self.min_token, "max_token": self.max_token}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1))
        self.bpe.save(str(folder / TOKENIZER), pretty=False)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.bpe.get_vocab_size()

    def encode(self, chunks: Float[Tensor, "b t a"]) -> list[list[int]]:
        """The tokens of each chunk, as many as it takes."""
        rounded = coefficients(chunks, self.scale).clamp(self.min_token, self.max_token) - self.min_token
        return [encoding.ids for encoding in self.bpe.encode_batch_fast(list(_texts(rounded)), add_special_tokens=False)]

    def decode(self, tokens: Iterable[Sequence[int]], horizon: int, action_dim: int) -> Float[Tensor, "b t a"]:
        """Chunks again. Tokens that do not spell `horizon · action_dim` characters are cut or filled up with zero coefficients."""
        count, rows = horizon * action_dim, []
        for ids in tokens:
            text = b"".join(self.pieces[token] for token in ids).decode("utf-8", errors="ignore")[:count]
            rows.append([ord(character) + self.min_token for character in text] + [0] * (count - len(text)))
        spectrum = torch.tensor(rows, dtype=torch.float64).view(-1, horizon, action_dim) / self.scale
        return (cosines(horizon).T @ spectrum).float()

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes of each token."""
        byte = {character: value for value, character in bytes_to_unicode().items()}
        tokens = (self.bpe.id_to_token(token) for token in range(self.size))
        return [bytes(byte[character] for character in token) if token and all(c in byte for c in token) else b"" for token in tokens]


@dataclass(frozen=True)
class Grammar:
    """Which tokens may follow, so that a sequence spells exactly N characters.

    A state is the number of characters begun so far, and whether the last of them lacks its second byte.

    Attributes:
        begun: `int64 [2, V]`, characters that a token begins, by whether one was open; a number beyond any chunk where it may not come.
        open: `bool [2, V]`, whether the last character is open after it.
    """

    begun: Int[Tensor, "2 v"]
    open: Tensor

    NEVER = 1 << 30

    @classmethod
    def of(cls, tokenizer: FastTokenizer) -> Grammar:
        begun = torch.full((2, tokenizer.size), cls.NEVER)
        open_after = torch.zeros(2, tokenizer.size, dtype=torch.bool)
        for token, piece in enumerate(tokenizer.pieces):
            for was_open in (False, True):
                if (read := _read(piece, was_open)) is not None:
                    begun[int(was_open), token], open_after[int(was_open), token] = read
        return cls(begun, open_after)

    def allowed(self, begun: Int[Tensor, " b"], is_open: Tensor, count: int) -> Tensor:
        """`bool [B, V]`: a token after which at most `count` characters are begun. There always is one until all are complete."""
        return begun.unsqueeze(1) + self.begun[is_open.long()] <= count

    def advance(self, begun: Int[Tensor, " b"], is_open: Tensor, token: Int[Tensor, " b"]) -> tuple[Int[Tensor, " b"], Tensor]:
        """The state after `token`."""
        return begun + self.begun[is_open.long(), token], self.open[is_open.long(), token]


def _read(piece: bytes, is_open: bool) -> tuple[int, bool] | None:
    """Characters begun by these bytes and whether the last is open, or None if they cannot come here."""
    begun = 0
    for byte in piece:
        if is_open != (0x80 <= byte < 0xC0) or not (byte < 0xC0 or 0xC2 <= byte < 0xE0):
            return None
        begun += not is_open
        is_open = byte >= 0xC2
    return (begun, is_open) if piece else None


def coefficients(chunks: Float[Tensor, "b t a"], scale: float) -> Int[Tensor, "b t a"]:
    """The rounded spectrum, lowest frequency first. In double precision on the CPU: a tie must fall the same way everywhere."""
    chunks = chunks.detach().to("cpu", torch.float64)
    return (cosines(chunks.shape[1]) @ chunks * scale).round().long()


def cosines(steps: int) -> Float[Tensor, "t t"]:
    """The orthonormal DCT-II as a matrix, a frequency per row; its transpose is the inverse."""
    when = torch.arange(steps, dtype=torch.float64)
    matrix = math.sqrt(2 / steps) * torch.cos(math.pi / steps * (when + 0.5) * when.unsqueeze(1))
    matrix[0] /= math.sqrt(2)
    return matrix


def _texts(symbols: Int[Tensor, "b t a"]) -> Iterable[str]:
    """One character a coefficient, all dimensions of a frequency side by side."""
    return ("".join(map(chr, row)) for row in symbols.flatten(1).tolist())
