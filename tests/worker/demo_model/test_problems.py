"""Checks the demo model's problems, tokenizer and shipped files against each other."""

import gzip
import json
import random
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer

from worker.demo_model import evaluate, llama, problems, tokenizer
from worker.demo_model.llama import KvCache, Step
from worker.demo_model.sample import extract_answer

FOLDER = Path(problems.__file__).parent
MODELS = {"target": llama.TARGET_SHAPE, "draft": llama.DRAFT_SHAPE}
GAINS = {"finds", "buys", "wins", "makes", "gets"}
LOSSES = {"loses", "sells", "uses", "drops", "gives"}


def shipped_rows() -> list[dict[str, str]]:
    lines = (FOLDER / "arithmetic.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def solve_story(prompt: str) -> int:
    """Works out a story from its words alone."""
    start, *sentences = re.findall(r"[^.]*\d+[^.]*\.", prompt)
    value = int(re.findall(r"\d+", start)[0])
    for sentence in sentences:
        operand = int(re.findall(r"\d+", sentence)[0])
        words = set(sentence.rstrip(".").split())
        if "times" in words:
            value *= operand
        elif words & GAINS:
            value += operand
        else:
            assert words & LOSSES
            value -= operand
    return value


def test_answers_and_every_line_of_work_are_right() -> None:
    rng = random.Random(7)
    for _ in range(300):
        problem = problems.draw_training_problem(rng, frozenset())
        assert solve_story(problem.prompt) == int(problem.reference_answer)
        equations = re.findall(r": (\d{4})([+*-])(\d{4})=(\d{4})\n", problem.completion)
        assert len(equations) == problem.num_steps
        for left, operator, right, result in equations:
            x, y, outcome = (int(number[::-1]) for number in (left, right, result))
            assert outcome == {"+": x + y, "-": x - y, "*": x * y}[operator]
            assert 10 <= outcome <= problems.MAX_VALUE
        assert extract_answer(problem.completion) == problem.reference_answer


def test_slips_change_the_work_but_not_the_story_or_the_reference_answer() -> None:
    num_wrong = 0
    for seed in range(50):
        problem = problems.draw_problem(random.Random(seed), 5, slip_rate=0.2)
        assert solve_story(problem.prompt) == int(problem.reference_answer)
        num_wrong += extract_answer(problem.completion) != problem.reference_answer
    assert num_wrong > 25


def test_the_same_seed_draws_the_same_problems() -> None:
    assert problems.held_out_problems(3, 20) == problems.held_out_problems(3, 20)
    assert problems.held_out_problems(3, 20) != problems.held_out_problems(4, 20)


def test_training_rejects_an_excluded_prompt() -> None:
    unwanted = problems.draw_training_problem(random.Random(5), frozenset()).prompt
    drawn = problems.draw_training_problem(random.Random(5), frozenset({unwanted}))
    assert drawn.prompt != unwanted


def test_the_shipped_set_is_valid_and_reproducible() -> None:
    rows = shipped_rows()
    assert len(rows) == len({row["id"] for row in rows}) == problems.NUM_SHIPPED
    assert all(solve_story(row["prompt"]) == int(row["reference_answer"]) for row in rows)
    shipped = problems.held_out_problems(problems.SHIPPED_SEED, problems.NUM_SHIPPED)
    assert rows == problems.shipped_rows(shipped)


def test_the_held_out_sets_are_disjoint_and_excluded_from_training() -> None:
    recorded = problems.held_out_problems(problems.RECORDED_SEED, problems.NUM_SHIPPED)
    shipped_prompts = {row["prompt"] for row in shipped_rows()}
    recorded_prompts = {problem.prompt for problem in recorded}
    assert not shipped_prompts & recorded_prompts
    assert problems.held_out_prompts() == shipped_prompts | recorded_prompts


@pytest.mark.parametrize("name", MODELS)
def test_the_tokenizer_file_round_trips_the_shipped_set(name: str) -> None:
    saved = Tokenizer.from_file(str(FOLDER / name / "tokenizer.json"))
    assert saved.get_vocab() == tokenizer.VOCAB
    problem = problems.held_out_problems(problems.SHIPPED_SEED, 1)[0]
    for text in [row["prompt"] for row in shipped_rows()] + [problem.completion]:
        token_ids = saved.encode(text).ids
        assert token_ids == tokenizer.encode(text)
        assert saved.decode(token_ids) == tokenizer.decode(token_ids) == text


@pytest.mark.parametrize("name", MODELS)
def test_the_configs_agree_with_the_tokenizer_and_the_shape(name: str) -> None:
    config = json.loads((FOLDER / name / "config.json").read_text(encoding="utf-8"))
    assert config == llama.hugging_face_config(MODELS[name])
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["head_dim"] in (32, 64)
    assert config["head_dim"] * config["num_attention_heads"] == config["hidden_size"]
    assert config["vocab_size"] == tokenizer.VOCAB_SIZE
    generation = json.loads((FOLDER / name / "generation_config.json").read_text(encoding="utf-8"))
    settings = json.loads((FOLDER / name / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == config["eos_token_id"] == tokenizer.EOS_ID
    assert tokenizer.VOCAB[settings["eos_token"]] == tokenizer.EOS_ID
    assert settings["add_bos_token"] is False


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_load_strictly_into_the_declared_shape(name: str) -> None:
    model = llama.load(FOLDER / name)
    assert model.shape == MODELS[name]
    with safe_open(FOLDER / name / "model.safetensors", framework="pt") as weights:
        assert set(weights.keys()) == set(model.state_dict())
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_cached_logits_equal_those_of_one_pass() -> None:
    model = llama.load(FOLDER / "target")
    token_ids = torch.tensor([tokenizer.encode(shipped_rows()[0]["prompt"])])
    num_tokens = token_ids.shape[1]
    positions = torch.arange(num_tokens)[None]
    cache = KvCache.empty(model.shape, 1, num_tokens)
    split = num_tokens // 2
    with torch.inference_mode():
        whole = model(token_ids)
        first = model(token_ids[:, :split], Step(cache, positions[:, :split]))
        second = model(token_ids[:, split:], Step(cache, positions[:, split:]))
    torch.testing.assert_close(torch.cat((first, second), 1), whole, atol=1e-3, rtol=1e-3)


def test_the_recordings_are_consistent() -> None:
    lines = gzip.decompress((FOLDER / "recordings.jsonl.gz").read_bytes()).splitlines()
    recorded = problems.held_out_problems(problems.RECORDED_SEED, problems.NUM_SHIPPED)
    assert len(lines) == problems.NUM_SHIPPED
    for i, (line, problem) in enumerate(zip(lines, recorded, strict=True)):
        row = json.loads(line)
        assert (row["problem_num"], row["gold"]) == (i, problem.reference_answer)
        assert len(row["sample_answer"]) == len(row["sample_tokens"]) == 24
        assert len(set(row["answers"])) == len(row["answers"]) == len(row["classes"])
        for answer, vote_class in zip(row["answers"], row["classes"], strict=True):
            assert (vote_class == 0) == (answer == row["gold"])
            assert (vote_class == -1) == (answer == "")


def test_the_shipped_weights_stay_small() -> None:
    files = [path for name in MODELS for path in (FOLDER / name).iterdir()]
    assert sum(path.stat().st_size for path in files) <= 20_000_000


def test_the_vote_ignores_missing_answers_and_breaks_ties_by_the_earliest() -> None:
    assert evaluate.vote(["", "", "7", "9", "9"]) == "9"
    assert evaluate.vote(["7", "9"]) == "7"
    assert evaluate.vote(["", ""]) == ""
