"""A small OpenAI-compatible server on the torch engine, for tests of what stands in front of one.

Run as `python -m tests.openai_server --model-dir DIR --port N`. It speaks as vLLM does where the
two go beyond OpenAI: usage with every chunk, `priority`, `vllm_xargs.draft_len`, `top_k`, and
`continue_final_message`. Branches really decode, a chunk per step; closing a stream aborts one.
"""

import argparse
import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from scheduler.core.branch_options import PromptFormat
from worker.engines.base import BranchFinished, BranchRequest, FinishReason, Sampling
from worker.engines.torch import engine as torch_engine
from worker.engines.torch.rows import Row
from worker.engines.torch.text import TokenizerText, before_stop


class StreamedRow(Row):
    """A row that tells a listener of every token that it gets."""

    __slots__ = ()
    streams: ClassVar[dict[str, "Stream"]] = {}

    def extend(
        self, tokens: Sequence[int], eos_token_ids: frozenset[int], max_model_len: int
    ) -> FinishReason | None:
        reason = super().extend(tokens, eos_token_ids, max_model_len)
        if (stream := self.streams.get(self.request.branch_id)) is not None:
            stream.tell((tuple(self.token_ids), reason))
        return reason


Progress = tuple[tuple[int, ...], FinishReason | None]
"""All tokens of a branch so far, and why it ended if it did."""


class Stream(SimpleQueue[BranchFinished]):
    """What one branch sends to its response; the engine's thread puts, the event loop takes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.items: asyncio.Queue[Progress | BranchFinished] = asyncio.Queue()

    def tell(self, item: Progress | BranchFinished) -> None:
        self._loop.call_soon_threadsafe(self.items.put_nowait, item)

    def put(self, item: BranchFinished, *_: object, **__: object) -> None:
        self.tell(item)


@dataclass
class Server:
    """One model over HTTP.

    Attributes:
        api_key: The key to ask for; None asks for none.
        num_failures: Requests to turn away with 503.
    """

    engine: torch_engine.TorchEngine
    text: TokenizerText
    model: str
    api_key: str | None
    num_failures: int = 0

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/completions", self.completions, methods=["POST"]),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/running", self.running),
                Route("/fail/{count:int}", self.fail),
            ]
        )

    async def models(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        card = {
            "id": self.model,
            "object": "model",
            "owned_by": "vllm",
            "max_model_len": self.engine.spec.max_model_len,
        }
        return JSONResponse({"object": "list", "data": [card]})

    async def running(self, _: Request) -> Response:
        """How many branches are live, so that a test can see an abort arrive."""
        return JSONResponse(len(StreamedRow.streams))

    async def fail(self, request: Request) -> Response:
        """Turn away so many of the requests to come, as while a model is loaded."""
        self.num_failures = request.path_params["count"]
        return JSONResponse(self.num_failures)

    async def completions(self, request: Request) -> Response:
        body = orjson.loads(await request.body())
        asked = {"prompt": str(body["prompt"]), "prompt_format": PromptFormat.PLAIN}
        return await self._serve(request, body, asked, is_chat=False)

    async def chat(self, request: Request) -> Response:
        body = orjson.loads(await request.body())
        said = {message["role"]: message["content"] for message in body["messages"]}
        partial = said.get("assistant", "")
        if partial and not (body["continue_final_message"] and not body["add_generation_prompt"]):
            return error(400, "the last message is the assistant's")
        asked = {
            "prompt": said["user"],
            "prompt_format": PromptFormat.CHAT,
            "system_prompt": said.get("system"),
            "partial": partial,
        }
        return await self._serve(request, body, asked, is_chat=True)

    async def _serve(
        self, request: Request, body: dict[str, Any], asked: dict[str, Any], *, is_chat: bool
    ) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        if self.num_failures > 0:
            self.num_failures -= 1
            return error(503, "the model is still loading")
        if body["model"] != self.model:
            return error(404, f"The model `{body['model']}` does not exist.")
        branch = BranchRequest(
            branch_id=str(next(self._numbers)),
            branch_index=0,
            num_speculative_tokens=body.get("vllm_xargs", {}).get("draft_len", 0),
            max_tokens=body["max_tokens"],
            sampling=Sampling(
                temperature=body["temperature"],
                top_p=body["top_p"],
                seed=body.get("seed"),
                top_k=body.get("top_k"),
                stop=tuple(body.get("stop", ())),
            ),
            priority=body.get("priority", 0),
            deadline_at=datetime.now(UTC) + timedelta(hours=1),
            **asked,
        )
        try:
            prompt_tokens = len(self.text.encode_prompt(branch))
        except ValueError as refusal:
            return error(400, str(refusal))
        longest = self.engine.spec.max_model_len
        if prompt_tokens >= longest:
            return error(
                400,
                f"This model's maximum context length is {longest} tokens. However, you requested"
                f" {prompt_tokens} tokens in the prompt.",
            )
        chunks = self._chunks(branch, body, prompt_tokens, is_chat=is_chat)
        return StreamingResponse(chunks, media_type="text/event-stream")

    async def _chunks(
        self, branch: BranchRequest, body: dict[str, Any], prompt_tokens: int, *, is_chat: bool
    ) -> AsyncIterator[bytes]:
        stream = Stream()
        StreamedRow.streams[branch.branch_id] = stream
        options = body.get("stream_options", {})
        text, num_tokens, has_ended = "", 0, False
        num_held_back = max(map(len, branch.sampling.stop), default=1) - 1

        def chunk(choices: list[dict[str, Any]], *, has_usage: bool) -> bytes:
            event: dict[str, Any] = {"model": self.model, "choices": choices}
            if has_usage:
                event["usage"] = {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": num_tokens,
                    "total_tokens": prompt_tokens + num_tokens,
                }
            return b"data: " + orjson.dumps(event) + b"\n\n"

        def choice(delta: str, reason: str | None) -> list[dict[str, Any]]:
            said: dict[str, Any] = {"delta": {"content": delta}} if is_chat else {"text": delta}
            return [{"index": 0, "finish_reason": reason, **said}]

        try:
            self.engine.submit([branch], stream)
            each_chunk = bool(options.get("continuous_usage_stats"))
            while not isinstance(item := await stream.items.get(), BranchFinished):
                tokens, reason = item
                now = before_stop(self.text.decode(tokens), branch.sampling.stop)
                # What may become a stop string is held back.
                now = now[: len(now) - num_held_back] if reason is None else now
                num_tokens = len(tokens)
                if not has_ended:
                    yield chunk(choice(now[len(text) :], reason), has_usage=each_chunk)
                text, has_ended = max(text, now, key=len), reason is not None
            if not has_ended:
                rest = item.text[len(text) :]
                yield chunk(choice(rest, item.finish_reason), has_usage=each_chunk)
            if item.error is not None:
                yield b"data: " + orjson.dumps({"error": {"message": item.error}}) + b"\n\n"
            if options.get("include_usage"):
                yield chunk([], has_usage=True)
            yield b"data: [DONE]\n\n"
        finally:
            del StreamedRow.streams[branch.branch_id]
            self.engine.abort([branch.branch_id])

    def _refused(self, request: Request) -> Response | None:
        if self.api_key and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return error(401, "Unauthorized")
        return None


def error(status: int, message: str) -> Response:
    """An error body as OpenAI and vLLM send it."""
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": status}
    return JSONResponse({"error": body}, status)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--draft-dir", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-num-seqs", type=int, default=16)
    parser.add_argument("--api-key")
    options = parser.parse_args()
    torch_engine.Row = StreamedRow  # type: ignore[attr-defined]
    engine = torch_engine.TorchEngine.load(
        options.model_dir,
        options.draft_dir,
        model=options.model,
        max_num_seqs=options.max_num_seqs,
    )
    server = Server(
        engine,
        TokenizerText(options.model_dir),
        options.model,
        options.api_key,
    )
    uvicorn.run(server.application(), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
