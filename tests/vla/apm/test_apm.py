"""The text-to-action model: probabilities over the grammar, learning, going on after a kill, and scores that a constant cannot earn."""

from __future__ import annotations

import json
import sys

import pytest
import torch
import transformers
import yaml

from perception.captioner.lessons import Household
from perception.captioner.model import Captioner
from perception.captioner.storage import save_weights
from perception.captioner.words import Words
from robot_io import UserError
from robot_io.household.skills import Skill, parse
from vla.apm.episode import Episode, demonstrate
from vla.apm.evaluate import entropy, examine
from vla.apm.imitate import demonstrations, majority
from vla.apm.model import TextToAction
from vla.apm.reinforce import returns
from vla.apm.rollout import Step, always, roll_out
from vla.apm.run import load, read_settings
from vla.apm.settings import Model, load_settings
from vla.apm.summaries import summariser
from vla.apm.words import tokenizer, vocabulary

TINY = ["model.dim=16", "model.layers=1", "model.heads=2", "model.dropout=0", "imitation.demonstrations=4", "imitation.steps=4", "imitation.batch_size=4",
        "reinforce.updates=2", "reinforce.episodes=2"]
PROMPT = "goal: put the cup on the desk; been: bedroom; before: [open] <fridge> done; see: kitchen; near the fridge; hand empty"


def captioner() -> tuple[Captioner, Words]:
    """An untrained one, small."""
    words = Words.of(Household().texts())
    return Captioner(len(words), dim=16, layers=1, heads=2, width=8).eval(), words


def bart(folder):
    """A real BART at a tiny size, with a byte-level tokenizer."""
    from tiny_vlms import tokenizer as bytes_of

    words = bytes_of()
    config = transformers.BartConfig(vocab_size=len(words), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                                     decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=256,
                                     pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None)
    transformers.BartForConditionalGeneration(config).save_pretrained(folder)
    words.save_pretrained(folder)


@pytest.fixture(params=["t5", "gpt2", "bart"])
def model(request, tmp_path) -> TextToAction:
    torch.manual_seed(0)
    if request.param == "bart":
        bart(tmp_path / "bart")
        return TextToAction(Model(checkpoint=str(tmp_path / "bart"))).eval()
    return TextToAction(Model(architecture=request.param, dim=16, layers=1, heads=2)).eval()


@torch.no_grad()
def test_a_model_says_sentences_of_the_grammar_and_its_probabilities_add_up(model):
    grammar = model.grammar
    everything = torch.arange(len(grammar.skills))
    alone = model.log_probs([PROMPT] * len(everything), None, everything).exp()
    assert alone.sum().item() == pytest.approx(1, abs=1e-4)
    padded = model.log_probs([PROMPT, PROMPT * 2], None, torch.tensor([3, 3]))[0].exp()
    torch.testing.assert_close(padded, alone[3], rtol=1e-3, atol=1e-6)
    drawn = [skill for seed in range(2) for skill in model.act([PROMPT] * 100, sample=seed)]
    assert drawn == [skill for seed in range(2) for skill in model.act([PROMPT] * 100, sample=seed)]
    expected = sum(p for skill, p in zip(grammar.skills, alone.tolist(), strict=True) if skill.verb == "walk")
    assert abs(sum(skill.verb == "walk" for skill in drawn) / 200 - expected) < 0.15
    assert model.act([PROMPT]) == model.act([PROMPT, PROMPT + "; fridge open: cup"])[:1], "padding changes nothing"


def test_every_word_of_prompts_and_actions_is_known():
    words = tokenizer()
    for layout in range(7):
        for episode, skill in demonstrate(layout, 40 + layout):
            (summary,), _ = summariser("oracle")([episode])
            ids = words(f"{episode.prompt(summary)} {skill}")["input_ids"]
            assert words.unk_token_id not in ids
    assert len(set(vocabulary())) == len(vocabulary())


def test_returns_are_discounted_and_only_for_episodes_that_got_there():
    steps = [Step(episode, "", None, None) for episode in (0, 1, 0, 1, 0)]
    torch.testing.assert_close(returns(steps, [True, False], 0.5), torch.tensor([0.25, 0, 0.5, 0, 1]))


def test_a_rollout_remembers_rooms_and_what_failed():
    episode = Episode(demonstrate(0, 1)[0][0].world)
    roll_out([episode], summariser("none"), always(parse("[switchon] <tv>")))
    assert not any(episode.executed) and len(episode.actions) == 30
    assert episode.prompt("").endswith(f"been: {episode.been[0]}; before: [switchon] <tv> failed")


def test_a_constant_walk_is_executable_and_worth_nothing():
    report = examine(always(majority(20)), summariser("none"), 14)
    found = report.metrics()
    assert majority(20).verb == "walk" and found["executability_percent"].mean == 100
    assert found["success"].mean == 0 and found["entropy_bits"].mean == 0 and found["verb_percent"].mean > 2 * found["object_percent"].mean
    assert entropy([Skill("walk", ("kitchen",)), Skill("walk", ("office",))]) == 1


def test_imitation_learns_the_first_steps():
    steps = demonstrations(4)
    (episodes, skills) = zip(*steps, strict=True)
    words, _ = summariser("oracle")(episodes)
    prompts = [episode.prompt(text) for episode, text in zip(episodes, words, strict=True)]
    model = TextToAction(Model(dim=48, layers=1, heads=2, dropout=0))
    said = torch.tensor([model.grammar.number[skill] for skill in skills])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(70):
        loss = -model.log_probs(prompts, None, said).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = [a == b for a, b in zip(model.eval().act(prompts), skills, strict=True)]
    assert sum(right) > 0.8 * len(right)


@pytest.fixture
def vla(tmp_path, monkeypatch, capfd):
    from vla.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["vla", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capfd.readouterr()

    return run


@pytest.mark.parametrize("summary", ["oracle", "pooled"])
def test_train_goes_on_where_it_was_killed_and_evaluate_reports_all_at_once(vla, tmp_path, monkeypatch, summary):
    from vla.apm import run as runs

    save_weights(*captioner(), tmp_path / "captioner.safetensors")
    monkeypatch.setattr(sys.modules["robot_io.household.world"], "LIMIT", 5)
    monkeypatch.setattr(runs, "KEEP_EVERY", 1)
    monkeypatch.setattr(sys.modules["vla.apm.reinforce"], "KEEP_EVERY", 1)
    options = [*TINY, f"summary={summary}", f"captioner={tmp_path / 'captioner.safetensors'}"]
    whole = vla("apm", "train", "whole", *options, "--json")
    assert whole[0] == 0, whole[2]
    killed, save = {"left": 1}, runs.save_checkpoint

    def die(state, folder, crew):
        save(state, folder, crew)
        if folder.parent.name == "reinforce":
            killed["left"] -= 1
            if killed["left"] == 0:
                raise KeyboardInterrupt

    monkeypatch.setattr(runs, "save_checkpoint", die)
    monkeypatch.setattr("sys.argv", ["vla", "apm", "train", "parts", *options])
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        from vla.cli import main

        main()
    monkeypatch.setattr(runs, "save_checkpoint", save)
    assert vla("apm", "train", "parts")[0] == 0
    for (name, ours), theirs in zip(load(tmp_path / "whole", "reinforce").state_dict().items(), load(tmp_path / "parts", "reinforce").state_dict().values(),
                                    strict=True):
        assert torch.equal(ours, theirs), name
    code, out, complaint = vla("apm", "evaluate", "whole", "--episodes", 7, "--json")
    assert code == 0, complaint
    metrics = {row["metric"] for row in json.loads(out)}
    assert metrics == {"success", "executability_percent", "object_percent", "verb_percent", "exact_percent", "entropy_bits"}
    assert {row["cell"]["stage"] for row in json.loads(out)} == {"imitation", "reinforce", "majority class"}
    before = json.loads(out)
    code, out, _ = vla("apm", "evaluate", "whole", "parts", "--summary", "none", "--episodes", 7, "--json")
    assert {row["cell"]["told"] for row in json.loads(out)} == {"–", "pooled" if summary == "pooled" else "none"}
    assert [row["mean"] for row in json.loads(out) if row["cell"]["stage"] == "majority class"] == [
        row["mean"] for row in before if row["cell"]["stage"] == "majority class"]
    assert vla("apm", "evaluate", "whole", "--summary", "rumour", "--episodes", 7)[0] == (0 if summary == "pooled" else 2)
    code, out, _ = vla("apm", "evaluate", "whole", "--stage", "imitation", "--says", "likeliest", "--says", "drawn", "--episodes", 7, "--json")
    bits = {row["cell"]["says"]: row["mean"] for row in json.loads(out) if row["metric"] == "entropy_bits" and row["cell"]["layouts"] == "all"}
    assert bits["drawn"] > bits["likeliest"] + 1  # of a model that has hardly been taught
    assert vla("apm", "evaluate", "whole", "--says", "anything")[0] == 2


def test_a_sheet_is_drawn(vla, tmp_path):
    save_weights(*captioner(), tmp_path / "captioner.safetensors")
    code, out, complaint = vla("apm", "look", "--captioner", "captioner.safetensors", "--seed", 20_012, "--json")
    assert code == 0, complaint
    assert json.loads(out)["reached"] and (tmp_path / "household.png").stat().st_size > 10_000


def test_settings_and_runs_that_do_not_fit_are_refused(vla, tmp_path):
    with pytest.raises(UserError, match=r"imitation\.stepz"):
        load_settings(overrides=["imitation.stepz=3"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "settings.yaml").write_text(yaml.safe_dump(load_settings(overrides=["seed=1"]).model_dump(mode="json")))
    assert read_settings(tmp_path / "other").seed == 1
    code, _, complaint = vla("apm", "train", "other", "seed=2")
    assert code == 2 and "other settings" in " ".join(complaint.split())
    assert vla("apm", "evaluate", "nowhere")[0] == 2 and vla("apm", "evaluate", "other")[0] == 2
    with pytest.raises(UserError, match="hf download facebook/bart-base"):
        TextToAction(Model(checkpoint=str(tmp_path / "nowhere")))
