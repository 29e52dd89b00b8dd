"""What a user of the official `openai` client expects, against a live server with a worker.

Run by `test_acceptance.py` under several versions of the client, each in an environment of its own
that has nothing but the client: this file imports nothing of ours. Arguments: base URL and key.
The server replays recordings of 40 problems, "Say 0." to "Say 39.", and refuses files over 2 MB
and more than 20,000 queued tokens.
"""

import io
import json
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai

MODEL = "recorded"
CHAT = "/v1/chat/completions"
TERMINAL = {"completed", "failed", "expired", "cancelled"}
BEST_EFFORT = {"slackline": {"best_effort": True}}


def chat(custom_id: str, prompt: str, **body: Any) -> dict[str, Any]:
    """A line of a batch."""
    messages = [{"role": "user", "content": prompt}]
    whole = {"model": MODEL, "messages": messages, **body}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": whole}


def known(number: int, *, repeat: int = 1) -> list[dict[str, Any]]:
    """Lines that the worker can answer, each problem several times."""
    return [
        chat(f"p{problem}-{copy}", f"Say {problem}.")
        for copy in range(repeat)
        for problem in range(number)
    ]


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    """The lines as a file."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@contextmanager
def receiving() -> Iterator[tuple[str, "queue.Queue[tuple[bytes, dict[str, str]]]"]]:
    """Address of an HTTP server, and what it takes: bodies with their headers."""
    messages: queue.Queue[tuple[bytes, dict[str, str]]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            messages.put((body, dict(self.headers)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", messages
        finally:
            server.shutdown()
            thread.join()


class Acceptance:
    """The checks; each method that begins with `check_` is one."""

    def __init__(self, base_url: str, key: str, key_of_little: str) -> None:
        self.client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
        self._key_of_little = key_of_little

    def upload(self, lines: list[dict[str, Any]]) -> Any:
        """Upload lines for a batch."""
        return self.client.files.create(file=("set.jsonl", jsonl(lines)), purpose="batch")

    def create(self, file_id: str, window: str = "60s", **options: Any) -> Any:
        """Create a batch of chat completions."""
        return self.client.batches.create(
            input_file_id=file_id,
            endpoint=CHAT,
            completion_window=window,
            **options,
        )

    def run(self, lines: list[dict[str, Any]], window: str = "60s", **options: Any) -> Any:
        """Run lines to their end."""
        return self.wait(self.create(self.upload(lines).id, window, **options))

    def wait(self, batch: Any, *states: str) -> Any:
        """Poll until one of the states, or an end."""
        give_up_at = time.monotonic() + 90
        while batch.status not in (set(states) or TERMINAL) | TERMINAL:
            assert time.monotonic() < give_up_at, batch
            time.sleep(0.2)
            batch = self.client.batches.retrieve(batch.id)
        return batch

    def lines(self, file_id: str) -> dict[str, dict[str, Any]]:
        """The lines of a file by custom id."""
        text = self.client.files.content(file_id).text
        parsed = [json.loads(line) for line in text.splitlines()]
        assert len({line["id"] for line in parsed}) == len(parsed)
        return {line["custom_id"]: line for line in parsed}

    def check_files_come_in_by_path_bytes_and_stream_and_go_out_as_they_were(self) -> None:
        """All forms of upload, metadata, content, listing and deletion."""
        data = jsonl(known(3))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "set.jsonl"
            path.write_bytes(data)
            stream = io.BytesIO(data)
            files = [
                self.client.files.create(file=form, purpose="batch")
                for form in (path, data, stream)
            ]
        assert files[0].filename == "set.jsonl"
        for file in files:
            assert (file.bytes, file.purpose, file.object) == (len(data), "batch", "file")
            assert file.status == "processed"
            assert self.client.files.retrieve(file.id) == file
            raw = self.client.files.with_raw_response.retrieve(file.id)
            openai.types.FileObject.model_validate_json(raw.text)
            assert self.client.files.content(file.id).read() == data
            with self.client.files.with_streaming_response.content(file.id) as response:
                assert b"".join(response.iter_bytes()) == data
        listed = [file.id for file in self.client.files.list(limit=2)]
        assert listed[:3] == [file.id for file in reversed(files)]
        assert len(set(listed)) == len(listed)
        ascending = [file.id for file in self.client.files.list(order="asc", purpose="batch")]
        assert ascending[-3:] == [file.id for file in files]
        gone = self.client.files.delete(files[0].id)
        assert (gone.id, gone.deleted) == (files[0].id, True)
        self.refused(404, None, lambda: self.client.files.retrieve(files[0].id))
        self.refused(404, None, lambda: self.client.files.delete(files[0].id))
        self.refused(404, None, lambda: self.client.files.content(files[0].id))

    def check_a_batch_runs_and_its_answers_come_back_with_their_votes(self) -> None:
        """Create, poll, download; an empty error file is none."""
        graded = [
            chat(f"p{i}", f"Say {i}.", slackline={"reference_answer": str(i)}) for i in range(8)
        ]
        batch = self.create(
            self.upload(graded).id,
            metadata={"customer": "c-1", "slackline.max_branches": "8"},
            extra_body={"slackline": {"family": "numbers"}},
        )
        assert batch.status == "validating"
        assert (batch.output_file_id, batch.error_file_id) == (None, None)
        assert batch.request_counts.total == 0
        assert batch.expires_at == batch.created_at + 60
        done = self.wait(batch)
        assert done.status == "completed", done
        raw = self.client.batches.with_raw_response.retrieve(done.id)
        openai.types.Batch.model_validate_json(raw.text)
        assert done.errors is None
        assert done.error_file_id is None
        assert done.metadata == {"customer": "c-1", "slackline.max_branches": "8"}
        counts = done.request_counts
        assert (counts.total, counts.completed, counts.failed) == (8, 8, 0)
        assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
        ours = done.model_extra["slackline"]
        assert ours["options"] == {"max_branches": 8, "family": "numbers"}
        output = self.client.files.retrieve(done.output_file_id)
        assert output.purpose == "batch_output"
        lines = self.lines(done.output_file_id)
        assert set(lines) == {f"p{i}" for i in range(8)}
        num_tokens = 0
        for line in lines.values():
            assert line["error"] is None
            assert line["response"]["status_code"] == 200
            body = line["response"]["body"]
            answer = openai.types.chat.ChatCompletion.model_validate(body)
            vote = body["slackline"]
            assert answer.choices[0].message.content == f"\\boxed{{{vote['answer']}}}"
            assert answer.choices[0].finish_reason == "stop"
            assert 0 < vote["vote_share"] <= 1
            assert 1 <= vote["num_branches_finished"] <= 16
            assert vote["num_branches_planned"] <= 8
            assert vote["degraded"] is False
            right = vote["answer"] == line["custom_id"].removeprefix("p")
            assert vote["is_correct"] is right
            assert vote["latency"]["e2e_latency_s"] > 0
            assert vote["branch"]["tpot_s"] > 0
            num_tokens += answer.usage.total_tokens
        if done.usage is not None:  # Clients of 2024 and 2025 do not know it.
            usage = done.usage if isinstance(done.usage, dict) else done.usage.model_dump()
            assert usage["total_tokens"] == num_tokens

    def check_text_completions_run_too(self) -> None:
        """The other endpoint."""
        lines = [
            {
                "custom_id": f"t{i}",
                "method": "POST",
                "url": "/v1/completions",
                "body": {"model": MODEL, "prompt": f"Say {i}.", "max_tokens": 290},
            }
            for i in range(3)
        ]
        batch = self.client.batches.create(
            input_file_id=self.upload(lines).id,
            endpoint="/v1/completions",
            completion_window="60s",
        )
        done = self.wait(batch)
        assert done.status == "completed", done
        for line in self.lines(done.output_file_id).values():
            answer = openai.types.Completion.model_validate(line["response"]["body"])
            assert answer.object == "text_completion"
            assert answer.choices[0].text.startswith("\\boxed")

    def check_lines_that_fail_stand_in_the_error_file(self) -> None:
        """Some fail, in both shapes; then all do, which leaves no output file."""
        asked = "Nobody recorded this."
        lines = [*known(2), chat("ran", asked), chat("n", "Say 1.", n=5), chat("long", "x" * 9**6)]
        done = self.run(lines)
        assert done.status == "completed", done
        counts = done.request_counts
        assert (counts.total, counts.completed, counts.failed) == (5, 2, 3)
        assert set(self.lines(done.output_file_id)) == {"p0-0", "p1-0"}
        failed = self.lines(done.error_file_id)
        codes = {
            key: (line["response"]["status_code"], line["response"]["body"]["error"]["code"])
            for key, line in failed.items()
        }
        assert codes == {
            "ran": (500, "inference_failed"),
            "n": (400, "unsupported_parameter"),
            "long": (400, "string_above_max_length"),
        }
        assert all(line["error"] is None for line in failed.values())
        for lines in ([chat("a", asked)], [chat("a", "Say 1.", logprobs=True)]):
            done = self.run(lines)
            assert done.status == "completed", done
            assert done.output_file_id is None
            assert set(self.lines(done.error_file_id)) == {"a"}
            assert (done.request_counts.completed, done.request_counts.failed) == (0, 1)

    def check_a_batch_whose_window_ends_expires_with_what_it_has(self) -> None:
        """Part of the lines are answered, the rest never ran; the output can be had before."""
        # Some are promised their answers, however much others take; the rest is far too much.
        promised = {"slackline": {"best_effort": False}}
        lines = [chat(f"promised-{i}", f"Say {i}.", **promised) for i in range(4)]
        lines += known(40, repeat=60)
        batch = self.create(self.upload(lines).id, "15s", extra_body=BEST_EFFORT)
        batch = self.wait(batch, "in_progress")
        num_partial = 0
        while batch.status == "in_progress" and not num_partial:
            assert batch.output_file_id is None
            so_far = batch.model_extra["slackline"]["output_file_id"]
            if so_far is not None:
                assert self.client.files.retrieve(so_far).status == "uploaded"
                num_partial = len(self.lines(so_far))
            time.sleep(0.2)
            batch = self.client.batches.retrieve(batch.id)
        done = self.wait(batch)
        assert done.status == "expired", done
        assert done.expired_at >= done.expires_at
        counts = done.request_counts
        assert counts.completed + counts.failed == counts.total == len(lines)
        output, failed = self.lines(done.output_file_id), self.lines(done.error_file_id)
        assert 0 < num_partial <= len(output) == counts.completed
        assert len(failed) == counts.failed > 0
        assert set(output) | set(failed) == {line["custom_id"] for line in lines}
        for line in failed.values():
            assert line["response"] is None
            assert line["error"]["code"] == "batch_expired"
        self.refused(409, None, lambda: self.client.batches.cancel(done.id), "status 'expired'")

    def check_a_batch_can_be_cancelled_in_every_state(self) -> None:
        """At once, while it runs, again, and not when it has ended."""
        file = self.upload(known(40, repeat=60))
        batch = self.client.batches.cancel(self.create(file.id, "60s", extra_body=BEST_EFFORT).id)
        assert batch.status in {"cancelling", "cancelled"}
        assert self.wait(batch).status == "cancelled"

        batch = self.wait(self.create(file.id, "60s", extra_body=BEST_EFFORT), "in_progress")
        while batch.status == "in_progress" and not batch.request_counts.completed:
            time.sleep(0.2)
            batch = self.client.batches.retrieve(batch.id)
        batch = self.client.batches.cancel(batch.id)
        assert batch.status == "cancelling"
        assert self.client.batches.cancel(batch.id).status in {"cancelling", "cancelled"}
        done = self.wait(batch)
        assert done.status == "cancelled", done
        assert done.cancelling_at <= done.cancelled_at
        counts = done.request_counts
        assert counts.completed + counts.failed == counts.total
        assert len(self.lines(done.output_file_id)) == counts.completed > 0
        failed = self.lines(done.error_file_id)
        assert {line["error"]["code"] for line in failed.values()} == {"batch_cancelled"}
        assert self.client.batches.cancel(batch.id).status == "cancelled"

        completed = self.run(known(1))
        cancel = self.client.batches.cancel
        self.refused(409, None, lambda: cancel(completed.id), "status 'completed'")
        failed_batch = self.run([chat("a", "x", stream=True)])
        self.refused(409, None, lambda: cancel(failed_batch.id), "status 'failed'")

    def check_a_file_that_is_not_valid_fails_its_batch(self) -> None:
        """Every row of the table of validation errors."""
        good = chat("a", "Say 1.")
        no_messages = {"model": MODEL}
        for lines, code, param, words in (
            ([good, {**good, "custom_id": None}], "missing_required_parameter", "custom_id", "'c"),
            ([good, {**good, "method": None}], "missing_required_parameter", "method", "'method'"),
            ([good, {"custom_id": "b"}], "missing_required_parameter", "method", "'method'"),
            ([good, good], "duplicate_custom_id", "custom_id", "The custom_id 'a' for this"),
            ([good, {**chat("b", "x"), "url": "/v1/x"}], "invalid_url", "url", "does not match"),
            ([good, chat("b", "x", stream=True)], "streaming_unsupported", "body.stream", "stream"),
            ([good, chat("b", "x", model=None)], "invalid_request", "body.model", "model"),
            ([good, {**good, "custom_id": "b", "body": no_messages}], "invalid_request",
             "body.messages", "messages"),
            ([good, chat("b", "x", model="m2")], "mismatched_model", "body.model",
             "Each batch must contain requests for a single model"),
            ([chat("b", "x", model="m2")], "model_not_found", "body.model", "m2"),
        ):  # fmt: skip
            done = self.run(lines, "7d")
            assert done.status == "failed", (code, done)
            assert done.failed_at >= done.created_at
            (error,) = done.errors.data
            assert (error.code, error.param) == (code, param), done.errors
            assert words in error.message
            assert error.line == (len(lines) if len(lines) == 2 else error.line)
            assert done.request_counts.total == 0
        data = b"\xef\xbb\xbf" + jsonl([good]) + b"\n{oops\n"
        file = self.client.files.create(file=("set.jsonl", data), purpose="batch")
        (error,) = self.wait(self.create(file.id)).errors.data
        assert (error.code, error.line) == ("invalid_json_line", 3)
        assert error.message == "This line is not parseable as valid JSON."
        (error,) = self.wait(self.create("file-none")).errors.data
        assert (error.code, error.param) == ("invalid_request", "file_id")
        assert "Cannot find file file-none, or organization" in error.message

    def check_a_batch_beyond_the_quota_of_its_tenant_fails(self) -> None:
        """The error row of a tenant that may queue only few tokens."""
        everything = self.client
        self.client = everything.with_options(api_key=self._key_of_little)
        (error,) = self.run(known(10)).errors.data
        self.client = everything
        assert (error.code, error.param) == ("token_limit_exceeded", None)
        assert f"Enqueued token limit reached for {MODEL}" in error.message

    def check_requests_that_are_not_valid_are_refused(self) -> None:
        """Every row of the table of HTTP errors."""
        files, batches = self.client.files, self.client.batches
        with_bad_key = self.client.with_options(api_key="sk-none")
        self.refused(401, "invalid_api_key", lambda: with_bad_key.files.list())
        for data in (b"", b"\n\n", b"not json\n", b"[1]\n", b"%PDF-1.4\x00\xff"):

            def bad_file(data: bytes = data) -> Any:
                return files.create(file=("x.jsonl", data), purpose="batch")

            self.refused(400, None, bad_file, "Invalid file format")
        large = jsonl([chat("a", "x" * 2_000_001)])
        self.refused(
            413, None, lambda: files.create(file=large, purpose="batch"), "larger than the 2000000"
        )

        def bad_purpose() -> Any:
            return files.create(file=b"{}", purpose="poetry")

        self.refused(400, "invalid_value", bad_purpose, "Supported values are")

        file_id = self.upload(known(40, repeat=10)).id

        def bad_endpoint() -> Any:
            return batches.create(
                input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h"
            )

        self.refused(
            400, "invalid_value", bad_endpoint, "Invalid value: '/v1/embeddings'. Supported",
            param="endpoint",
        )  # fmt: skip
        for window in ("4s", "8d", "soon", ""):

            def bad_window(window: str = window) -> Any:
                return self.create(file_id, window)

            self.refused(400, "invalid_value", bad_window, param="completion_window")

        def bad_metadata() -> Any:
            return self.create(file_id, metadata={"tags": ["a"]})

        self.refused(
            400, "invalid_type", bad_metadata,
            "Invalid type for 'metadata.tags': expected a string, but got an array instead.",
            param="metadata.tags",
        )  # fmt: skip
        self.refused(
            404, None, lambda: batches.retrieve("batch_1"), "No batch found with id 'batch_1'."
        )
        self.refused(404, None, lambda: batches.cancel("batch_1"), "No batch found")
        busy = self.refused(
            429, "deadline_infeasible", lambda: self.create(file_id, "5s"), "earliest feasible",
            param="completion_window",
        )  # fmt: skip
        assert busy.type == "rate_limit_error"
        assert busy.body["earliest_finish_s"] > 5
        assert 1 <= int(busy.response.headers["retry-after"]) <= 120

    def check_45_batches_are_listed_by_iteration(self) -> None:
        """Pages of twenty, newest first, without an end that repeats."""
        file_id = self.upload(known(1)).id
        made = [self.create(file_id, "1h", extra_body=BEST_EFFORT).id for _ in range(45)]
        listed = [batch.id for batch in self.client.batches.list(limit=20)]
        assert listed[:45] == list(reversed(made))
        assert len(set(listed)) == len(listed)
        page = self.client.batches.list(limit=20, after=made[20])
        assert [batch.id for batch in page.data] == list(reversed(made[:20]))[:20]
        for batch_id in made:
            self.wait(self.client.batches.retrieve(batch_id))

    def check_the_same_idempotency_key_makes_one_batch(self) -> None:
        """A key of the user's own, sent by hand."""
        file_id = self.upload(known(1)).id
        key = {"Idempotency-Key": "key-1"}
        first, again = (self.create(file_id, extra_headers=key) for _ in range(2))
        assert first.id == again.id
        self.refused(
            409, "idempotency_key_reused", lambda: self.create(file_id, "61s", extra_headers=key)
        )

    def check_webhooks_are_unwrapped(self) -> None:
        """Every end of a batch, told in the words that the client knows, with both secrets."""
        ends = ("completed", "failed", "cancelled", "expired")
        with receiving() as (url, messages):
            wanted = {"url": url, "event_types": [f"batch.{end}" for end in ends]}
            webhook: Any = self.client.post("/webhooks", cast_to=object, body=wanted)
            rotation = f"/webhooks/{webhook['id']}/rotate_secret"
            rotated: Any = self.client.post(rotation, cast_to=object)
            secrets = (webhook["signing_secret"], rotated["signing_secret"])
            many = self.upload(known(40, repeat=60)).id
            expired = self.create(many, "5s", extra_body=BEST_EFFORT)
            failed = self.create("file-none")
            cancelled = self.client.batches.cancel(self.create(many, extra_body=BEST_EFFORT).id)
            completed = self.create(self.upload(known(1)).id)
            batches = dict(zip(ends, (completed, failed, cancelled, expired), strict=True))
            told: dict[str, Any] = {}
            # Batches of other checks may end late.
            while not {batch.id for batch in batches.values()} <= set(told):
                body, headers = messages.get(timeout=90)
                for secret in secrets:
                    event = self.client.webhooks.unwrap(body, headers, secret=secret)
                    assert event.id == headers["webhook-id"]
                    told[event.data.id] = event
            for end, batch in batches.items():
                event = told[batch.id]
                assert event.type == f"batch.{end}"
                assert type(event).__name__ == f"Batch{end.capitalize()}WebhookEvent"
                ended = self.client.batches.retrieve(batch.id)
                assert (ended.status, event.object) == (end, "event")
                assert abs(event.created_at - getattr(ended, f"{end}_at")) <= 1
            try:
                self.client.webhooks.unwrap(body, headers, secret="whsec_bm90IG91cnM=")
            except openai.InvalidWebhookSignatureError:
                pass
            else:
                raise AssertionError("a message with a wrong signature was taken")
            gone: Any = self.client.delete(f"/webhooks/{webhook['id']}", cast_to=object)
            assert gone["deleted"] is True

    def refused(
        self,
        status: int,
        code: "str | None",
        call: Any,
        words: str = "",
        *,
        param: "str | None" = None,
    ) -> Any:
        """The error of a call that must be refused."""
        try:
            found = call()
        except openai.APIStatusError as error:
            assert (error.status_code, error.code) == (status, code), (error, error.body)
            assert words in error.message, error.message
            assert param is None or error.param == param, error.body
            assert error.request_id
            body: Any = error.body
            assert {"message", "type", "param", "code"} <= set(body)
            return error
        raise AssertionError(f"not refused with {status} {code}: {found}")


def main() -> None:
    """Run every check; the first that fails ends it."""
    acceptance = Acceptance(*sys.argv[1:])
    for name in dir(acceptance):
        if name.startswith("check_"):
            began_s = time.monotonic()
            getattr(acceptance, name)()
            print(f"{time.monotonic() - began_s:5.1f} s  {name}", flush=True)
    print(f"openai {openai.__version__}: passed", flush=True)


if __name__ == "__main__":
    main()
