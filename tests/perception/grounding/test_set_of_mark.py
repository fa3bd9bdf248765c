"""Set-of-mark prompting: what is drawn, what is asked, what counts as an answer, and both kinds of askers."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import tiny_grounding

from perception.grounding import ASKERS, SELECTORS
from perception.grounding.set_of_mark import draw_marks, parse_answer, question
from perception.stages import Detections
from robot_io import UserError

NAMES = ("red cube", "bowl")


class Server:
    """A real endpoint of the protocol; answers with `reply(body)` and keeps what it was sent."""

    def __init__(self, reply):
        outer, self.sent = self, []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.sent.append((self.path, dict(self.headers), body))
                status, answer = reply(body)
                payload = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def says(text):
    return lambda body: (200, {"choices": [{"message": {"role": "assistant", "content": text}}]})


def scene() -> tuple[np.ndarray, Detections]:
    """A red and a blue square, each found twice, and marks for two."""
    picture = np.full((64, 64, 3), 120, np.uint8)
    masks = np.zeros((3, 64, 64), bool)
    masks[0, 10:30, 10:30] = masks[1, 11:30, 10:30] = masks[2, 35:60, 35:60] = True
    picture[masks[0]], picture[masks[2]] = (200, 20, 20), (20, 20, 200)
    boxes = np.array([[10, 10, 30, 30], [10, 11, 30, 30], [35, 35, 60, 60]], np.float32)
    return picture, Detections(boxes, np.array([0.6, 0.5, 0.8], np.float32), np.array([0, 1, 1]), masks)


def selector(url, **options):
    return SELECTORS.load("set_of_mark")(SELECTORS.configure(
        {"kind": "set_of_mark", "asker": {"kind": "endpoint", "url": url, "timeout": 5, **options}}))


def test_marks_lie_inside_their_masks_and_the_rest_is_untouched():
    picture, candidates = scene()
    marked = draw_marks(picture, candidates.masks[[0, 2]])
    outside = ~candidates.masks.any(0)
    np.testing.assert_array_equal(marked[outside], picture[outside])
    for mask, colour in ((candidates.masks[0], (228, 26, 28)), (candidates.masks[2], (55, 126, 184))):
        rows, columns = np.nonzero(mask)
        assert tuple(marked[rows.min(), columns.min()]) == colour  # the outline's corner
        assert (marked[mask] == 0).all(-1).any()  # the label's box


@pytest.mark.parametrize(("answer", "ids"), [
    ('{"red cube": [1], "bowl": [2]}', {"red cube": [1], "bowl": [2]}),
    ('```json\n{"red cube": [], "bowl": [2]}\n```', {"red cube": [], "bowl": [2]}),
    ('{"red cube": [1]}', None),
    ('{"red cube": [1], "bowl": [2], "spoon": []}', None),
    ('{"red cube": [1], "bowl": [1]}', None),
    ('{"red cube": [3], "bowl": []}', None),
    ('{"red cube": [0], "bowl": []}', None),
    ('{"red cube": 1, "bowl": []}', None),
    ('{"red cube": [true], "bowl": []}', None),
    ('{"red cube": ["1"], "bowl": []}', None),
    ("The red cube is number 1.", None),
    ('Sure! {"red cube": [1], "bowl": [2]}', None),
    ("", None),
])
def test_only_exactly_what_was_asked_for_counts(answer, ids):
    assert parse_answer(answer, NAMES, 2) == ids


def test_the_question_names_every_thing_and_reference():
    text = question(NAMES, 4, "put the red cube in the bowl", ["red cube"])
    assert all(json.dumps(part) in text for part in (list(NAMES), "put the red cube in the bowl"))
    assert "from 1 to 4" in text and 'Picture 2 shows the thing called "red cube"' in text


def test_an_endpoint_is_sent_marks_and_references_and_its_answer_is_taken(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    picture, candidates = scene()
    with Server(says('{"red cube": [2], "bowl": []}')) as server:
        chosen = selector(server.url, key_variable="MY_KEY").select(picture, candidates, NAMES, "pick up the red cube",
                                                                     [picture[10:30, 10:20], None])
    assert chosen == [0, None]  # marks are numbered by score, near copies share one: 1 is the blue square, 2 the red one
    path, headers, body = server.sent[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret" and body["temperature"] == 0
    pictures = [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    from PIL import Image

    sizes = [Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))).size for url in pictures]
    assert sizes == [(448, 448), (50, 100)]  # enlarged, and the reference's shorter side


@pytest.mark.parametrize("answer", ["I would rather not.", '{"red cube": [1, 2], "bowl": []}', '{"red cube": [], "bowl": []}'])
def test_no_clear_answer_is_no_choice(answer):
    picture, candidates = scene()
    with Server(says(answer)) as server:
        assert selector(server.url).select(picture, candidates, NAMES, "", [None, None]) == [None, None]


@pytest.mark.parametrize(("reply", "message"), [
    (lambda body: (500, "out of memory"), "answers 500: out of memory"),
    (lambda body: (200, "<html>"), "gives no answer"),
    (lambda body: (200, {"choices": []}), "gives no answer"),
], ids=["error", "not_json", "no_choices"])
def test_an_endpoint_that_fails_is_one_clear_error(reply, message):
    picture, candidates = scene()
    with Server(reply) as server, pytest.raises(UserError, match=message):
        selector(server.url).select(picture, candidates, NAMES, "", [None, None])


def test_nobody_at_the_endpoint_is_one_clear_error():
    with pytest.raises(UserError, match=r"gives no answer.*vllm serve"):
        ASKERS.load("endpoint")(ASKERS.configure({"kind": "endpoint", "url": "http://127.0.0.1:9/v1", "timeout": 2})).ask([], "hello")


def test_a_local_model_answers_what_it_was_taught(tmp_path):
    """A tiny Qwen3-VL is taught one answer by heart; it must come back through template, generation, decoding and parsing."""
    import torch
    from PIL import Image

    weights = str(tiny_grounding.save("local", tmp_path))
    marks = SELECTORS.load("set_of_mark")(SELECTORS.configure(
        {"kind": "set_of_mark", "side": 64, "asker": {"kind": "local", "weights": weights, "max_tokens": 48}}))
    model, processor = marks.asker.model.model, marks.asker._processor
    picture, candidates = scene()
    answer = '{"red cube": [2], "bowl": [1]}'
    content = [{"type": "image", "image": Image.fromarray(picture)}, {"type": "text", "text": question(NAMES, 2, "go", [])}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True,
                                           return_dict=True, return_tensors="pt")
    words = processor.tokenizer(answer, return_tensors="pt", add_special_tokens=False)["input_ids"]
    words = torch.cat([words, torch.tensor([[processor.tokenizer.eos_token_id]])], 1)
    start = prompt["input_ids"].shape[1]
    inputs = dict(prompt) | {"input_ids": torch.cat([prompt["input_ids"], words], 1),
                             "attention_mask": torch.ones(1, start + words.shape[1], dtype=torch.long)}
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, words.shape[1]))
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states[-1][0, start - 1:-1]
    model.lm_head = torch.nn.Linear(states.shape[1], len(processor.tokenizer), bias=False)
    optimizer = torch.optim.AdamW(model.lm_head.parameters(), 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.lm_head(states), words[0]).backward()
        optimizer.step()
    assert marks.select(picture, candidates, NAMES, "go", [None, None]) == [0, 2]
