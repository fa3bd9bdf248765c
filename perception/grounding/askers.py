"""Who answers questions about pictures: a model in this process, or an OpenAI-compatible endpoint.

    asker.ask(pictures, text) -> str

OBEYED-VLA (arXiv 2512.22519) asks Qwen3-VL-8B-Instruct, served by vLLM; both ways below ask the same words. Answers are greedy.
"""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import nn

from perception.grounding.published import Published, load_model, load_processor
from perception.stages import Picture
from robot_io import UserError
from robot_io.registry import ComponentConfig

FILES = (("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json", "tokenizer.model"))


class Asker(Protocol):
    """Pictures and a question → an answer in words."""

    def ask(self, pictures: Sequence[Picture], text: str) -> str: ...


class LocalVLM(nn.Module):
    """An image-text-to-text model of transformers, by folder or hub id."""

    EXAMPLE: ClassVar[str] = "Qwen/Qwen3-VL-8B-Instruct"

    class Config(ComponentConfig):
        kind: Literal["local"] = "local"
        weights: str = Field("Qwen/Qwen3-VL-8B-Instruct", description="folder or hub id")
        max_tokens: int = Field(96, ge=1, description="longest answer")

    def __init__(self, config: Config) -> None:
        super().__init__()
        import transformers

        self.config = config
        self.model = Published(load_model(transformers.AutoModelForImageTextToText, config.weights, "asker local", self.EXAMPLE))
        self._processor: Any = load_processor(transformers.AutoProcessor, config.weights, "asker local", self.EXAMPLE, FILES)

    @torch.inference_mode()
    def ask(self, pictures: Sequence[Picture], text: str) -> str:
        from PIL import Image

        content = [{"type": "image", "image": Image.fromarray(picture)} for picture in pictures]
        message = {"role": "user", "content": [*content, {"type": "text", "text": text}]}
        inputs = self._processor.apply_chat_template([message], add_generation_prompt=True, tokenize=True, return_dict=True,
                                                     return_tensors="pt").to(self.model.device)
        tokens = self.model.model.generate(**inputs, max_new_tokens=self.config.max_tokens, do_sample=False)
        return self._processor.decode(tokens[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)


class Endpoint:
    """`POST URL/chat/completions` with pictures as PNG data URLs, as vLLM, SGLang, llama.cpp and OpenAI understand it."""

    class Config(ComponentConfig):
        kind: Literal["endpoint"] = "endpoint"
        url: str = Field("http://127.0.0.1:8000/v1", pattern=r"^https?://", description="what comes before /chat/completions")
        model: str = Field("Qwen/Qwen3-VL-8B-Instruct", description="the name it is served under")
        key_variable: str = Field("OPENAI_API_KEY", description="environment variable that holds the key, if one is needed")
        timeout: float = Field(20.0, gt=0, description="seconds to wait for an answer")
        max_tokens: int = Field(96, ge=1, description="longest answer")

    def __init__(self, config: Config) -> None:
        self.config = config

    def ask(self, pictures: Sequence[Picture], text: str) -> str:
        """
        Raises:
            UserError: nobody answers, or not in the protocol.
        """
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(picture)}} for picture in pictures]
        body = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": [*content, {"type": "text", "text": text}]}],
            "temperature": 0,
            "max_tokens": self.config.max_tokens,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.config.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.config.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.config.timeout) as reply:
                return str(json.loads(reply.read())["choices"][0]["message"]["content"] or "")
        except urllib.error.HTTPError as error:
            raise self._wrong(f"answers {error.code}: {error.read(300).decode(errors='replace')}") from None
        except (OSError, json.JSONDecodeError, LookupError, TypeError) as error:
            raise self._wrong(f"gives no answer ({type(error).__name__}: {error})") from None

    def _wrong(self, found: str) -> UserError:
        return UserError(f"endpoint {self.config.url}", found, f"an OpenAI-compatible server of '{self.config.model}'",
                         "start it (vllm serve MODEL), or correct url, model and the key")


def _data_url(picture: Picture) -> str:
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(picture).save(png, "PNG")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
