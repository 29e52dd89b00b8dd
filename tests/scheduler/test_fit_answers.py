"""The command that fits an answer profile to a file of recordings."""

import gzip
import json
from pathlib import Path

import pytest

from scheduler.core.accuracy import AnswerProfile
from scheduler.fit_answers import main, parse_ranges, read_recordings
from tests.scheduler.core.worlds import mean_length

DEMO = Path("infra/demo_data/recorded_branches_40.jsonl.gz")
MODEL, DATASET = "EXAONE-Deep-32B", "math500"


def write_recordings(path: Path, count: int) -> None:
    rows = [
        {
            "dataset": "d",
            "model": "m",
            "problem_num": number,
            "answers": ["1", "2", ""],
            "classes": [0, 1, -1],
            "sample_answer": [0, 0, 1, 2, 0],
            "sample_tokens": [10, 12, 14, 16, 0],
        }
        for number in range(count)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def test_a_problem_whose_requests_all_failed_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_recordings(path, 2)
    first, second = map(json.loads, path.read_text().splitlines())
    first["sample_tokens"] = [0] * 5
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert [number for number, _ in read_recordings(path, "m", "d")] == [1]


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_it_writes_a_profile_without_the_problems_held_out(tmp_path: Path, name: str) -> None:
    write_recordings(tmp_path / name, 10)
    out = tmp_path / "profile.json"
    arguments = [str(tmp_path / name), "--model", "m", "--dataset", "d", "--out", str(out)]
    assert main([*arguments, "--skip-problems", "0-3,9"]) == 0
    profile = AnswerProfile.from_dict(json.loads(out.read_text()))
    assert profile.num_problems_seen == 5
    assert profile.num_branches_seen == 20, "failed requests do not count"
    assert "0-3,9" in profile.source


def test_a_malformed_line_is_reported_by_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"dataset": "d", "model": "m"}\n')
    arguments = [str(path), "--model", "m", "--dataset", "d", "--out", str(tmp_path / "o")]
    assert main(arguments) == 1
    assert "line 1" in capsys.readouterr().err


def test_an_unknown_model_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recordings(tmp_path / "r.jsonl", 1)
    arguments = [str(tmp_path / "r.jsonl"), "--model", "x", "--dataset", "d"]
    assert main([*arguments, "--out", str(tmp_path / "o")]) == 1
    assert "no recordings of model 'x'" in capsys.readouterr().err


def test_ranges_list_problem_numbers() -> None:
    assert parse_ranges("0-2,7") == {0, 1, 2, 7}
    assert parse_ranges("") == frozenset()


def test_the_shipped_profile_forecasts_the_shipped_recordings() -> None:
    profile_path = Path("scheduler/profiles/exaone-deep-32b-math500.json")
    profile = AnswerProfile.from_dict(json.loads(profile_path.read_text()))
    recordings = dict(read_recordings(DEMO, MODEL, DATASET))
    assert sorted(recordings) == list(range(40))
    right = [record.classes.count(0) / len(record.classes) for record in recordings.values()]
    assert profile.accuracy_of(1, 1e6) == pytest.approx(sum(right) / 40, abs=0.05)
    tokens = [t for record in recordings.values() for t in record.tokens]
    assert mean_length(profile, 1e6) == pytest.approx(sum(tokens) / len(tokens), rel=0.2)
