"""Speculative sampling draws from the target's distribution, whatever the draft proposes.

The reference is the joint distribution of the first tokens, enumerated with the target alone. A
chi-square test compares samples with it, and total variation between samples of draft lengths 0
and 4 is held against the noise between two samples of draft length 0. The negative controls show
that the same tests catch wrong samplers.
"""

import functools
import itertools
from collections import Counter
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from tests.worker.engines.branches import branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from worker.engines.base import BranchFinished, Sampling
from worker.engines.torch import decoder as decoder_module
from worker.engines.torch.config import LlamaConfig
from worker.engines.torch.decoder import Decoder
from worker.engines.torch.engine import TorchEngine
from worker.engines.torch.model import LlamaModel
from worker.engines.torch.sampling import draw, verify
from worker.engines.torch.weights import load_weights

VOCAB = "abcde"
PROMPT = "abcab"
NUM_TOKENS = 4
NUM_SAMPLES = 5000
SEED = 11
SETTINGS = [Sampling(temperature=0.8), Sampling(temperature=0.8, top_p=0.9)]
REJECTED_BELOW = 1e-4
"""A right sampler has a smaller p-value once in 10,000 seeds, and the seeds here are fixed."""

JOINT = ["".join(letters) for letters in itertools.product(VOCAB, repeat=NUM_TOKENS)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target and a draft that agree on about half of their probability."""
    root = tmp_path_factory.mktemp("checkpoints")
    target = write_checkpoint(root / "target", seed=1, vocab=VOCAB, logit_scale=1.5)
    draft = write_checkpoint(
        root / "draft", seed=2, vocab=VOCAB, hidden_size=16, num_layers=1, logit_scale=1.5
    )
    return target, draft


@functools.cache
def sample(
    target: Path,
    draft: Path | None,
    sampling: Sampling,
    draft_lengths: tuple[int, ...],
    seed: int,
) -> dict[str, int]:
    """Counts the first tokens of many branches, whose draft lengths take turns."""
    engine = TorchEngine.load(target, draft, model="tiny", max_num_seqs=1000, seed=seed)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit(
        [
            branch(
                f"{i}",
                PROMPT,
                num_speculative_tokens=draft_lengths[i % len(draft_lengths)],
                sampling=sampling,
                # One more than is looked at, so that drafts are cut off for none of them.
                max_tokens=NUM_TOKENS + 1,
            )
            for i in range(NUM_SAMPLES)
        ],
        events,
    )
    finished = collect(events, NUM_SAMPLES)
    engine.close()
    return Counter(event.text[:NUM_TOKENS] for event in finished.values())


@functools.cache
@torch.inference_mode()
def joint_distribution(directory: Path, sampling: Sampling) -> NDArray[np.float64]:
    """Enumerates the probability of each of `JOINT`, one forward pass per prefix."""
    config = LlamaConfig.read(directory)
    weights = load_weights(directory, config, device=torch.device("cpu"), dtype=torch.float32)
    decoder = Decoder(LlamaModel(config, weights, 64), None, max_num_seqs=1, max_tokens=64)
    by_prefix = {"": 1.0}
    for _ in range(NUM_TOKENS):
        longer = {}
        for prefix, probability in by_prefix.items():
            logits = decoder.prefill([VOCAB.index(c) for c in PROMPT + prefix]).logits[0]
            following = next_token_distribution(logits.double().numpy(), sampling)
            for letter, conditional in zip(VOCAB, following, strict=True):
                longer[prefix + letter] = probability * conditional
        by_prefix = longer
    return np.array([by_prefix[joint] for joint in JOINT])


def next_token_distribution(logits: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    """Softmax at a temperature, cut to the smallest set that reaches top_p; plain and slow."""
    probabilities = np.exp((logits - logits.max()) / sampling.temperature)
    probabilities /= probabilities.sum()
    kept, total = [], 0.0
    for token in np.argsort(-probabilities):
        if total >= sampling.top_p:
            break
        kept.append(token)
        total += probabilities[token]
    nucleus: NDArray[np.float64] = np.zeros_like(probabilities)
    nucleus[kept] = probabilities[kept] / total
    return nucleus


def chi_square_p_value(counts: dict[str, int], expected: NDArray[np.float64]) -> float:
    """Tests counts against a distribution; cells expecting fewer than 5 are pooled."""
    observed = np.array([counts.get(joint, 0) for joint in JOINT], dtype=float)
    if observed[expected == 0].sum():
        return 0.0
    frequencies = expected * NUM_SAMPLES
    is_large = frequencies >= 5
    rest = (expected > 0) & ~is_large
    f_obs, f_exp = observed[is_large], frequencies[is_large]
    if frequencies[rest].sum() >= 5:
        f_obs = np.append(f_obs, observed[rest].sum())
        f_exp = np.append(f_exp, frequencies[rest].sum())
    return float(stats.chisquare(f_obs, f_exp * f_obs.sum() / f_exp.sum()).pvalue)


def total_variation(a: dict[str, int], b: dict[str, int]) -> float:
    """Half the summed difference of two empirical distributions."""
    return sum(abs(a.get(joint, 0) - b.get(joint, 0)) for joint in JOINT) / (2 * NUM_SAMPLES)


@pytest.mark.parametrize("sampling", SETTINGS, ids=["temperature", "top_p"])
@pytest.mark.parametrize("draft_lengths", [(0,), (4,), (1, 3)], ids=str)
def test_first_tokens_follow_the_target_whatever_the_draft_length(
    checkpoints: tuple[Path, Path], sampling: Sampling, draft_lengths: tuple[int, ...]
) -> None:
    counts = sample(*checkpoints, sampling, draft_lengths, SEED)
    assert chi_square_p_value(counts, joint_distribution(checkpoints[0], sampling)) > REJECTED_BELOW


@pytest.mark.parametrize("sampling", SETTINGS, ids=["temperature", "top_p"])
def test_speculation_differs_from_plain_decoding_by_sampling_noise_only(
    checkpoints: tuple[Path, Path], sampling: Sampling
) -> None:
    plain = sample(*checkpoints, sampling, (0,), SEED)
    noise = total_variation(plain, sample(*checkpoints, sampling, (0,), SEED + 1))
    speculative = sample(*checkpoints, sampling, (4,), SEED)
    assert total_variation(plain, speculative) < 1.2 * noise
    draft_only = sample(checkpoints[1], None, sampling, (0,), SEED)
    assert total_variation(plain, draft_only) > 2 * noise


@pytest.mark.parametrize("sampling", SETTINGS, ids=["temperature", "top_p"])
def test_the_test_rejects_samples_of_the_draft_alone(
    checkpoints: tuple[Path, Path], sampling: Sampling
) -> None:
    counts = sample(checkpoints[1], None, sampling, (0,), SEED)
    assert chi_square_p_value(counts, joint_distribution(checkpoints[0], sampling)) < REJECTED_BELOW


def test_the_test_rejects_a_wrong_acceptance_rule(
    checkpoints: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resample_from_the_target_itself(
        target: Tensor, draft: Tensor, drafted: Tensor, is_drafted: Tensor | None, uniforms: Tensor
    ) -> tuple[Tensor, Tensor]:
        num_accepted, _ = verify(target, draft, drafted, is_drafted, uniforms)
        p_next = target[torch.arange(len(target)), num_accepted]
        return num_accepted, draw(p_next, uniforms[:, 0, :1])

    monkeypatch.setattr(decoder_module, "verify", resample_from_the_target_itself)
    counts = sample.__wrapped__(*checkpoints, SETTINGS[0], (4,), SEED)
    expected = joint_distribution(checkpoints[0], SETTINGS[0])
    assert chi_square_p_value(counts, expected) < REJECTED_BELOW
