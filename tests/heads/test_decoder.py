"""The decoders of the tokens head: shapes, what they read, and what they refuse."""

import pytest
import torch
from toy_context import OUTPUT, context

from backbones.context import Context
from heads.decoder import FlatDecoder, QueryDecoder
from robot_io import UserError


@pytest.mark.parametrize("build", [
    lambda: FlatDecoder(FlatDecoder.Config(width=24, features=10), OUTPUT),
    lambda: QueryDecoder(QueryDecoder.Config(width=24), OUTPUT),
    lambda: QueryDecoder(QueryDecoder.Config(width=24, reads="hidden"), OUTPUT),
])
def test_every_step_gets_features(build):
    decoder = build()
    assert decoder(context(3)).shape == (3, OUTPUT.horizon, decoder.features)


def test_a_query_decoder_reads_the_sequence_but_not_its_padding():
    decoder = QueryDecoder(QueryDecoder.Config(width=16, reads="hidden"), OUTPUT).eval()
    seen = context(2)
    padding_changed = Context(seen.hidden.masked_fill(~seen.mask[..., None], 9.0), seen.mask, seen.readout)
    words_changed = Context(seen.hidden.masked_fill(seen.mask[..., None], 9.0), seen.mask, seen.readout)
    assert torch.equal(decoder(seen), decoder(padding_changed))
    assert not torch.allclose(decoder(seen), decoder(words_changed))


def test_a_width_that_the_attention_heads_do_not_divide_is_refused():
    with pytest.raises(UserError, match="multiple of attention_heads"):
        QueryDecoder(QueryDecoder.Config(width=30), OUTPUT)
