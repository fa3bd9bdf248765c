"""`tiny` in words: it says what is on the table and answers questions about it.

A `Speaker` stands on a frozen trunk. Its layers start as copies of the trunk's, which look for what words name already, and are taught to go
on writing behind the action queries:

    pictures   [B, V·N, D+W] the trunk's cells, of the front and the wrist camera, and what the `lens` sees there
    sequence   [B·T, L, D]   T prompts about each scene, padded; the K action queries; what has been said so far

Prompt and queries see each other, as in the trunk; what is said sees them and what was said before it. All of it looks at the cells,
whose keys and values are computed once per scene for all its prompts and all words of the answers. See `docs/tiny.md`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.context import Inputs
from backbones.tiny import text
from backbones.tiny.lens import Lens
from backbones.tiny.model import WEIGHTS, KeysValues, Tiny
from backbones.tiny.scenes import VIEWS
from backbones.tiny.sentences import DESCRIBE
from backbones.tiny.vision import SIZE
from perception.percept import Percept
from robot_io import UserError
from robot_io.files import replacing

SHIPPED = WEIGHTS / "speaker"
LONGEST = text.MAX_TOKENS
LENS = 64
"""Width W of what the lens adds to a cell."""
EDGE = text.PAD
"""The token before the first one that is said, and the one that ends it."""


def trunk_of(views: int = len(VIEWS)) -> Tiny:
    """The shipped trunk, frozen, for pictures of `views` cameras and no state."""
    trunk = Tiny(Tiny.Config(), Inputs(views, (SIZE, SIZE), 0))
    trunk.load_pretrained()
    return trunk.eval().requires_grad_(False)


def fingerprint(*modules: nn.Module) -> str:
    """Twelve digits that tell these weights from any others."""
    digest = hashlib.sha256()
    for name, value in sorted(item for module in modules for item in module.state_dict().items()):
        digest.update(name.encode() + value.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


class Speaker(nn.Module):
    """Pictures and prompts → words. See the module's head; 1.1 million parameters beside the trunk's."""

    def __init__(self, trunk: Tiny) -> None:
        super().__init__()
        self.trunk = trunk.eval().requires_grad_(False)
        dim = trunk.dim
        for name in ("words", "layers", "norm"):
            setattr(self, name, copy.deepcopy(getattr(trunk, name)).requires_grad_(True))
        for name in ("word_position", "query"):
            setattr(self, name, nn.Parameter(getattr(trunk, name).detach().clone()))
        self.lens = Lens(2 * trunk.config.eye_width, LENS)
        self.join = nn.Linear(LENS, dim, bias=False)
        nn.init.zeros_(self.join.weight)  # it begins with what the trunk sees
        self.said_position = nn.Parameter(torch.randn(LONGEST + 1, dim) * 0.02)
        self.say = nn.Linear(dim, text.VOCABULARY)

    def train(self, mode: bool = True) -> Speaker:
        super().train(mode)
        self.trunk.eval()
        return self

    def taught(self) -> dict[str, nn.Parameter]:
        """What is its own."""
        return {name: value for name, value in self.named_parameters() if not name.startswith("trunk.")}

    # Use --------------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, weights: str | Path = "tabletop", trunk: Tiny | None = None) -> Speaker:
        """A speaker of shipped weights by name, or of a file that `save` wrote.

        Raises:
            UserError: no such file, one of something else, or one that was taught on another trunk.
        """
        shipped = SHIPPED / f"{weights}.safetensors"
        path = shipped if shipped.exists() else Path(weights)
        if not path.is_file():
            names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "none"
            raise UserError("speaker weights", f"'{weights}' is neither shipped nor a file", f"one of {names}, or a .safetensors file",
                            "name shipped weights or teach some: python -m backbones.tiny.teach_words")
        speaker = cls(trunk or trunk_of())
        try:
            with safe_open(path, "pt") as file:
                taught_on = (file.metadata() or {}).get("trunk")
                found = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises its own kinds
            raise UserError(f"speaker weights {path}", f"cannot be read: {str(error)[:200]}", "a .safetensors file",
                            "copy it again") from error
        own = {name: value.shape for name, value in speaker.taught().items()}
        if taught_on != fingerprint(speaker.trunk) or {name: value.shape for name, value in found.items()} != own:
            raise UserError(f"speaker weights {path}", f"were taught on trunk {taught_on}", f"trunk {fingerprint(speaker.trunk)}",
                            "teach the speaker on this trunk: python -m backbones.tiny.teach_words")
        speaker.load_state_dict(found, strict=False)
        return speaker.eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """Write what was taught, in half precision, whole or not at all."""
        with replacing(path) as part:
            values = {name: value.detach().half().contiguous() for name, value in self.taught().items()}
            save_file(values, part, metadata={"trunk": fingerprint(self.trunk)})

    @torch.inference_mode()
    def describe(self, images: Float[Tensor, "b v 3 h w"]) -> list[str]:
        """A caption of each scene. `images` in [0, 1], views in the order of `scenes.VIEWS`."""
        return [said for (said,) in self.answer(images, [[DESCRIBE]] * len(images))]

    @torch.inference_mode()
    def answer(self, images: Float[Tensor, "b v 3 h w"], questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """Answers to the questions about each scene; the same number of questions for all scenes."""
        return self.write(self.see(images), questions)

    # Inside -----------------------------------------------------------------------------------------------------

    def loss(self, looked: Sequence[KeysValues], prompts: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> Tensor:
        """-log p(answer | prompt, pictures) per token, its end included. T prompts and answers for each of B scenes."""
        prefix, seen = self._prefix(_flat(prompts))
        ids, real = text.encode(_flat(answers), prefix.device)
        length = ids.shape[1] + 1
        said = F.pad(ids, (1, 0), value=EDGE)  # [B·T, S]
        embedded = torch.cat([prefix, self._said(said, 0)], 1)
        hidden, _ = self._layers(embedded, _mask(seen, length), looked)
        target = F.pad(ids, (0, 1), value=EDGE).masked_fill(~F.pad(real, (1, 0), value=True), -100)
        return F.cross_entropy(self.say(hidden[:, -length:]).flatten(0, 1), target.flatten(), ignore_index=-100)

    @torch.inference_mode()
    def write(self, cells: Float[Tensor, "b n c"], prompts: Sequence[Sequence[str]]) -> list[list[str]]:
        """The likeliest token, one after the other, until every answer has ended."""
        looked, (prefix, seen) = self.look(cells), self._prefix(_flat(prompts))
        _, read = self._layers(prefix, repeat(seen, "b m -> b l m", l=prefix.shape[1]), looked)
        word = torch.full((len(prefix), 1), EDGE, dtype=torch.long, device=prefix.device)
        said, ended = [], torch.zeros_like(word, dtype=torch.bool)
        while len(said) < LONGEST and not ended.all():
            seen = F.pad(seen, (0, 1), value=True)
            hidden, read = self._layers(self._said(word, len(said)), seen[:, None], looked, read)
            word = self.say(hidden).argmax(-1).masked_fill(ended, EDGE)
            ended = ended | (word == EDGE)
            said.append(word)
        spoken = [text.tokenizer().decode([i for i in row if i != EDGE]).strip() for row in torch.cat(said, 1).tolist()]
        each = len(prompts[0])
        return [spoken[start:start + each] for start in range(0, len(spoken), each)]

    def see(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b n c"]:
        """The trunk's cells and the lens's, side by side. None of it changes once words are taught."""
        maps = self.trunk.eye.half_way(images.flatten(0, 1))
        return torch.cat([self.trunk.cells(Percept(images=images)), self.lens(maps, images.shape[1])], -1)

    def look(self, cells: Float[Tensor, "b n c"]) -> list[KeysValues]:
        """What each layer reads of the pictures."""
        own, seen = cells.split((self.trunk.dim, LENS), -1)
        cells = own + self.join(seen)
        return [layer.look.keys_values(cells) for layer in self.layers]

    def _prefix(self, prompts: list[str]) -> tuple[Float[Tensor, "q l d"], Bool[Tensor, "q l"]]:
        """Prompts and the action queries, and which positions are real."""
        ids, real = text.encode(prompts, self.query.device)
        words = self.words(ids) + self.word_position[:ids.shape[1]]
        return torch.cat([words, self.query.expand(len(prompts), -1, -1)], 1), F.pad(real, (0, len(self.query)), value=True)

    def _said(self, ids: Tensor, start: int) -> Float[Tensor, "q l d"]:
        return self.words(ids) + self.said_position[start:start + ids.shape[1]]

    def _layers(
        self, x: Float[Tensor, "q l d"], mask: Bool[Tensor, "q l m"], looked: Sequence[KeysValues], before: Sequence[KeysValues] | None = None
    ) -> tuple[Float[Tensor, "q l d"], list[KeysValues]]:
        """`x` after all layers, and the keys and values of the sequence so far. `before`: of what came before `x`."""
        read = []
        for i, (layer, pictures) in enumerate(zip(self.layers, looked, strict=True)):
            inner = layer.norm_self(x)
            own = layer.attend.keys_values(inner)
            if before is not None:
                own = tuple(torch.cat(pair, 2) for pair in zip(before[i], own, strict=True))
            x = x + layer.dropout(layer.attend.attend(inner, *own, mask))
            together = rearrange(layer.norm_look(x), "(b t) l d -> b (t l) d", b=len(pictures[0]))
            x = x + layer.dropout(layer.look.attend(together, *pictures, None).reshape(x.shape))
            x = x + layer.dropout(layer.down(F.gelu(layer.up(layer.norm_think(x)))))
            read.append(own)
        return self.norm(x), read


def _mask(seen: Bool[Tensor, "q p"], said: int) -> Bool[Tensor, "q l l"]:
    """Who sees whom: the prefix itself, what is said the prefix and what was said before."""
    rows, prefix = seen.shape[1] + said, seen.shape[1]
    behind = torch.ones(rows, rows, dtype=torch.bool, device=seen.device).tril()
    behind[:prefix] = False
    behind[:, :prefix] = True
    return behind & F.pad(seen, (0, said), value=True)[:, None]


def _flat(texts: Sequence[Sequence[str]]) -> list[str]:
    return [one for mine in texts for one in mine]

