"""Recorded branches of a model, found by the prompt of their problem."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """One recorded branch; `answer` is empty when it gave none."""

    answer: str
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class RecordedProblem:
    """The samples of one problem in the order of recording."""

    key: int
    prompt_tokens: int
    samples: tuple[RecordedSample, ...]


class Recordings:
    """Problems by prompt. The order of samples is shuffled per problem and seed, once."""

    def __init__(self, problems: Mapping[str, RecordedProblem], *, seed: int = 0) -> None:
        self._problems = {prompt.strip(): problem for prompt, problem in problems.items()}
        self._seed = seed
        self._orders: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._problems)

    def find(self, prompt: str) -> RecordedProblem | None:
        """The problem with this prompt, surrounding white space aside."""
        return self._problems.get(prompt.strip())

    def sample(self, problem: RecordedProblem, branch_index: int) -> RecordedSample:
        """The sample that branch `branch_index` replays; starts over after the last one."""
        order = self._orders.get(problem.key)
        if order is None:
            rng = np.random.default_rng((self._seed, problem.key))
            order = rng.permutation(len(problem.samples)).tolist()
            self._orders[problem.key] = order
        return problem.samples[order[branch_index % len(order)]]


def load_recordings(
    recordings: Path,
    problems: Path,
    *,
    model: str | None = None,
    dataset: str | None = None,
    seed: int = 0,
) -> Recordings:
    """Read recordings (JSON lines, gzip or not) and the problem set that they index by line.

    A recorded row has `dataset`, `model`, `problem_num` (line of the problem set, from 0),
    `answers` (distinct ones), `sample_answer` (index into them per sample) and `sample_tokens`.
    A problem has `prompt` (or `problem`). Samples of no tokens are failed requests and dropped.

    Args:
        model: Take rows of this model only; needed when the file has several.
        dataset: Take rows of this data set only.

    Raises:
        ValueError: No row matches, two rows claim one problem, or a line is missing.
    """
    prompts = [_prompt_of(row) for row in _read_rows(problems)]
    found: dict[str, RecordedProblem] = {}
    for row in _read_rows(recordings):
        if model not in (None, row["model"]) or dataset not in (None, row["dataset"]):
            continue
        number = int(row["problem_num"])
        if number >= len(prompts):
            raise ValueError(f"{problems} has no line {number} that {recordings} refers to")
        prompt = prompts[number]
        if prompt in found:
            raise ValueError(
                f"{recordings} has two rows for problem {number}: name the model and the data set"
            )
        answers = row["answers"]
        pairs = zip(row["sample_answer"], row["sample_tokens"], strict=True)
        samples = tuple(RecordedSample(answers[i], tokens) for i, tokens in pairs if tokens > 0)
        if samples:
            found[prompt] = RecordedProblem(number, estimate_prompt_tokens(prompt), samples)
    if not found:
        raise ValueError(f"{recordings} has no samples of model {model!r}, data set {dataset!r}")
    return Recordings(found, seed=seed)


def estimate_prompt_tokens(prompt: str) -> int:
    """Tokens of a prompt without its tokenizer: four characters each, as English text has."""
    return max(1, round(len(prompt) / 4))


def _prompt_of(row: Mapping[str, Any]) -> str:
    prompt: str = row["prompt"] if "prompt" in row else row["problem"]
    return prompt


def _read_rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return [orjson.loads(line) for line in data.splitlines() if line.strip()]
