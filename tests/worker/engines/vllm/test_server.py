"""The openai engine in front of vLLM's own server, with a draft length per branch."""

import json
import os
import sys
from collections.abc import Iterator
from queue import SimpleQueue

import httpx
import pytest

from infra.processes import ChildSpec
from infra.servers import free_port
from tests.servers import running
from tests.worker.engines.branches import assert_consistent, branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from worker.engines.base import BranchFinished, FinishReason, Sampling
from worker.engines.openai.engine import OpenAIEngine
from worker.engines.openai.settings import EndpointSettings

START_TIMEOUT_S = 240.0
NUM_DRAFTS = 4
PROMPTS = ["abcdefgh" * 8, "aabbccddeeffgghh" * 5]
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a tiny model that never ends by itself, with a draft that often agrees."""
    root = tmp_path_factory.mktemp("vllm")
    for name, num_layers in (("target", 2), ("draft", 1)):
        write_checkpoint(
            root / name,
            seed=1,
            hidden_size=64,
            num_heads=2,
            num_layers=num_layers,
            logit_scale=1.5,
        )
        config = {"tokenizer_class": "PreTrainedTokenizerFast"}
        (root / name / "tokenizer_config.json").write_text(json.dumps(config))
    port = free_port()
    speculation = {
        "method": "draft_model",
        "model": str(root / "draft"),
        "num_speculative_tokens": NUM_DRAFTS,
        "num_speculative_tokens_per_batch_size": [[1, 8, NUM_DRAFTS]],
    }
    options = {
        "model": root / "target",
        "served-model-name": "tiny",
        "port": port,
        "dtype": "float32",
        "max-model-len": 512,
        "max-num-seqs": 8,
        "block-size": 32,
        "kv-cache-memory-bytes": 128 << 20,
        "scheduling-policy": "priority",
        "scheduler-cls": "worker.engines.vllm.scheduler.PerBranchScheduler",
        "worker-extension-cls": "worker.engines.vllm.patches.WorkerExtension",
        "speculative-config": json.dumps(speculation),
    }
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    argv += [text for name, value in options.items() for text in (f"--{name}", str(value))]

    def listens() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/v1/models", verify=False).is_success
        except httpx.TransportError:
            return False

    env = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    spec = ChildSpec("vllm", tuple(argv), listens, env=env)
    with running(spec, root, START_TIMEOUT_S):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def engine(base_url: str) -> Iterator[OpenAIEngine]:
    settings = EndpointSettings(
        base_url=base_url,
        api="completions",
        num_speculative_tokens=NUM_DRAFTS,
        draft_per_branch=True,
        send_priority=True,
    )
    made = OpenAIEngine(settings, max_num_seqs=4)
    yield made
    made.close()


def test_branches_of_all_draft_lengths_agree_and_tell_their_drafts(engine: OpenAIEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    requests = [
        branch(f"{p}:{k}", PROMPTS[p], sampling=GREEDY, max_tokens=60, num_speculative_tokens=k)
        for p in range(2)
        for k in (0, 1, 2, 4)
    ]
    engine.submit(requests, events)
    finished = collect(events, len(requests))
    for request in requests:
        event = finished[request.branch_id]
        assert event.finish_reason is FinishReason.LENGTH
        assert event.text == finished[f"{request.branch_id[0]}:0"].text
        assert event.metrics.completion_tokens == 60
        assert_consistent(request, event)
    assert sum(finished["0:4"].metrics.accepted_by_position) > 0
    assert finished["0:4"].metrics.num_steps < 59


def test_an_abort_ends_branches_and_a_prompt_too_long_fails_alone(engine: OpenAIEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit(
        [
            branch("abort", PROMPTS[0], max_tokens=400),
            branch("long", PROMPTS[0] * 10),
            branch("fine", PROMPTS[1], sampling=Sampling(top_k=5, stop=("never",))),
        ],
        events,
    )
    engine.abort(["abort"])
    finished = collect(events, 3)
    assert finished["abort"].finish_reason is FinishReason.ABORT
    assert "maximum context length" in str(finished["long"].error)
    assert finished["fine"].finish_reason is FinishReason.LENGTH
