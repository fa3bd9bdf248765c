"""`tiny`: what a head may rely on, whatever the weights."""

import pytest
import torch
from safetensors.torch import save_file

from backbones.context import Inputs
from backbones.tiny import text
from backbones.tiny.model import Tiny
from perception.percept import Percept
from robot_io import UserError

SMALL = {"weights": None, "dim": 32, "layers": 2, "heads": 2, "queries": 3, "eye_width": 8, "eye_blocks": 1}


def make(**inputs) -> Tiny:
    torch.manual_seed(0)
    size = {"views": 2, "image_size": (64, 64), "state_dim": 5} | inputs
    return Tiny(Tiny.Config(**SMALL), Inputs(**size)).eval()


def picture(batch: int = 2) -> Percept:
    return Percept(images=torch.rand(batch, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))


def test_readout_has_one_vector_per_query():
    context = make()(picture(), ["pick up the red cube", "lift it"], torch.zeros(2, 5))
    assert context.readout.shape == (2, 3, 32)
    assert context.hidden.shape[:2] == context.mask.shape
    assert torch.equal(context.hidden[:, -3:], context.readout)


def test_a_longer_neighbour_in_the_batch_changes_nothing():
    tiny, percept, state = make(), picture(), torch.randn(2, 5)
    both = tiny(percept, ["grasp the ball", "take the purple cylinder from the table please"], state).readout[0]
    alone = tiny(Percept(images=percept.images[:1]), ["grasp the ball"], state[:1]).readout[0]
    torch.testing.assert_close(both, alone, atol=1e-5, rtol=1e-4)


def test_features_seen_ahead_of_time_give_the_same_context():
    tiny, percept, state = make(), picture(), torch.randn(2, 5)
    seen = tiny.see(percept).replace(images=None)
    assert torch.equal(tiny(seen, ["a", "b"], state).readout, tiny(percept, ["a", "b"], state).readout)


@pytest.mark.parametrize("change", ["instruction", "state", "view", "text", "order of views"])
def test_the_readout_depends_on(change: str):
    tiny, percept, state, words = make(), picture(1), torch.zeros(1, 5), ["pick up the red cube"]
    before = tiny(percept, words, state).readout
    if change == "instruction":
        words = ["pick up the blue cube"]
    elif change == "state":
        state = state + 1
    elif change == "view":
        percept = Percept(images=percept.images.clone().index_fill_(1, torch.tensor([1]), 0.0))
    elif change == "text":
        percept = percept.replace(text=["a cube on a table"])
    else:
        percept = Percept(images=percept.images.flip(1))
    assert (tiny(percept, words, state).readout - before).abs().max() > 1e-4


def test_extra_tokens_are_read_and_masked_ones_are_not():
    tiny, state = make(token_dim=7), torch.zeros(1, 5)
    tokens, mask = torch.randn(1, 4, 7), torch.tensor([[True, True, False, False]])
    percept = picture(1).replace(tokens=tokens, token_mask=mask)
    before = tiny(percept, ["go"], state).readout
    hidden = tokens.clone()
    hidden[:, 2:] = 9
    torch.testing.assert_close(tiny(percept.replace(tokens=hidden), ["go"], state).readout, before)
    assert (tiny(percept.replace(tokens=tokens + 1), ["go"], state).readout - before).abs().max() > 1e-4


def test_any_text_has_an_encoding_and_a_novel_is_refused():
    ids, mask = text.encode(["Prends le cube rouge, s'il te plaît ☕", "go"])
    assert ids.shape == mask.shape and mask.sum(1).tolist()[1] < mask.sum(1).tolist()[0]
    with pytest.raises(UserError, match="shorten it"):
        text.encode(["pick " * 200])


def test_published_weights_load_and_what_belongs_to_the_robot_stays_new(tmp_path):
    source, target = make(), make()
    save_file({k: v for k, v in source.state_dict().items() if not k.startswith("state_projection")}, tmp_path / "w.safetensors")
    for parameter in target.parameters():
        parameter.data += 1.0
    state_before = target.state_projection.weight.clone()
    target.config = target.config.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    target.load_pretrained()
    assert torch.equal(target.query, source.query) and torch.equal(target.state_projection.weight, state_before)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    tiny = make()
    save_file({"query": torch.zeros(1, 1)}, tmp_path / "w.safetensors")
    tiny.config = tiny.config.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    with pytest.raises(UserError, match="'query' is"):
        tiny.load_pretrained()
    tiny.config = tiny.config.model_copy(update={"weights": "nothing"})
    with pytest.raises(UserError, match="neither shipped nor a file"):
        tiny.load_pretrained()


def test_too_many_views_are_refused():
    with pytest.raises(UserError, match="at most 4"):
        make(views=5)


def test_shipped_weights_load():
    config = Tiny.Config()
    Tiny(config, Inputs(2, (128, 128), 16)).load_pretrained()
