"""The captioner's network: a convolutional encoder and a transformer that writes words, reading the encoder's cells.

    picture [B, 3, 128, 128] ──grounder's encoder──▶ cells [B, 256, D] ──decoder──▶ words, one after the other

The encoder is the lower half of the embedded grounder's segmenter (`perception.grounder.model`) and starts from its weights; beside its
features every cell holds its mean colour, which segmenting did not need. About 1.3 million parameters.

Shapes: B pictures, L words, N = 16·16 cells, D the width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from perception.grounder.model import SIZE, Segmenter

CELLS = 16
LONGEST = 96
"""Words of a caption, start and end included."""


class Encoder(nn.Module):
    """Pictures → cells, row by row."""

    def __init__(self, dim: int, width: int = 16) -> None:
        super().__init__()
        self.width = width
        whole = Segmenter(width)
        self.stem, self.down4, self.down8, self.down16, self.up8 = whole.stem, whole.down4, whole.down8, whole.down16, whole.up8
        self.project = nn.Linear(6 * width + 3, dim)
        self.norm = nn.LayerNorm(dim)
        self.position = nn.Parameter(torch.randn(CELLS * CELLS, dim) * 0.02)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """`images` in [0, 1], of any size."""
        if images.shape[-2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        f4 = self.down4(self.stem(images * 2 - 1))
        f8 = self.down8(f4)
        f8 = self.up8(self.down16(f8), f8)
        cells = torch.cat([f8, F.avg_pool2d(f4, 2), F.avg_pool2d(images, SIZE // CELLS)], 1).flatten(2).mT
        return self.norm(self.project(cells)) + self.position

    def start_from(self, segmenter: Segmenter) -> None:
        """Take over the grounder's weights."""
        own = {name for name, _ in self.named_parameters()}
        self.load_state_dict({k: v for k, v in segmenter.state_dict().items() if k in own}, strict=False)


class Captioner(nn.Module):
    """Pictures and the words so far → the next word.

    Args:
        words: size of the vocabulary; 0 is padding, 1 starts and 2 ends a caption.
    """

    def __init__(self, words: int, dim: int = 128, layers: int = 3, heads: int = 4, width: int = 16) -> None:
        super().__init__()
        self.sizes = {"words": words, "dim": dim, "layers": layers, "heads": heads, "width": width}
        self.encoder = Encoder(dim, width)
        self.embedding = nn.Embedding(words, dim)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.position = nn.Parameter(torch.randn(LONGEST, dim) * 0.02)
        layer = nn.TransformerDecoderLayer(dim, heads, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(dim))

    def forward(self, cells: Float[Tensor, "b n d"], said: Int64[Tensor, "b l"]) -> Float[Tensor, "b l w"]:
        """Logits of the word that follows each word of `said`."""
        length = said.shape[1]
        ahead: Bool[Tensor, "l l"] = torch.ones(length, length, dtype=torch.bool, device=said.device).triu(1)
        hidden = self.decoder(self.embedding(said) + self.position[:length], cells, tgt_mask=ahead, tgt_is_causal=True)
        return hidden @ self.embedding.weight.T

    def loss(self, images: Float[Tensor, "b 3 h w"], captions: Int64[Tensor, "b l"]) -> Tensor:
        """-log p(caption | picture) per word: SUM's loss (arXiv 2306.05696, sec. 3)."""
        logits = self(self.encoder(images), captions[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), captions[:, 1:].flatten(), ignore_index=0)

    @torch.inference_mode()
    def write(self, images: Float[Tensor, "b 3 h w"]) -> Int64[Tensor, "b l"]:
        """The likeliest word, one after the other, until all captions have ended."""
        cells = self.encoder(images)
        said = torch.ones(len(images), 1, dtype=torch.int64, device=images.device)
        ended = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        while said.shape[1] < LONGEST and not ended.all():
            word = self(cells, said)[:, -1].argmax(-1).masked_fill(ended, 0)
            said = torch.cat([said, word[:, None]], 1)
            ended |= word == 2
        return said[:, 1:]
