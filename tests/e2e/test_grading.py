"""Answers of others are graded by a real worker, through HTTP."""

import csv
import json
import os
import subprocess
from pathlib import Path

from api.client.shapes import Problem, Submission
from tests.replay_files import MODEL, problem_set
from tests.stack import Stack, slackline


def with_submissions(problems: list[Problem], *, keep_reference: bool = True) -> list[Problem]:
    """The problems, each with a right, a wrong and an empty submission."""
    for number, problem in enumerate(problems):
        problem["submissions"] = [
            Submission(id="ann", text=f"Let me see.\nIt is \\boxed{{{2 * number}/2}}"),
            Submission(id="bob", answer=str(number + 1)),
            Submission(id="cy", text="I do not know.\nSorry."),
        ]
        if not keep_reference:
            del problem["reference_answer"]
    return problems


def test_submissions_are_graded_beside_our_answers(stack: Stack) -> None:
    with stack.client() as client:
        problems = with_submissions(problem_set(4))
        job = client.submit(problems, model=MODEL, deadline="30s")
        assert client.wait(job["id"])["state"] == "completed"
        results = list(client.results(job["id"], submissions=True))
    for number, result in enumerate(results):
        assert result["grade"] == ("right" if result["is_correct"] else "wrong")
        assert str(number) in (result["grade_reason"] or "")
        graded = {s["id"]: (s["grade"], s["reason"]) for s in result["submissions"] or ()}
        assert graded == {
            "ann": ("right", f"equivalent to the reference {number} as a number"),
            "bob": ("wrong", f"not equivalent to the reference {number}"),
            "cy": ("ungradable", "no final answer found"),
        }


def test_without_references_our_answers_are_the_yardstick(stack: Stack) -> None:
    with stack.client() as client:
        problems = with_submissions(problem_set(4), keep_reference=False)
        job = client.submit(problems, model=MODEL, deadline="30s")
        assert client.wait(job["id"])["state"] == "completed"
        results = list(client.results(job["id"], submissions=True))
    for number, result in enumerate(results):
        assert result["grade"] is None
        ann = (result["submissions"] or [])[0]
        assert ann["confidence"] == result["vote_share"]
        assert ann["grade"] == ("right" if result["answer"] == str(number) else "wrong")


def test_a_job_that_is_not_to_be_solved_grades_without_a_branch(stack: Stack) -> None:
    with stack.client() as client:
        problems = with_submissions(problem_set(40))
        job = client.submit(problems, model=MODEL, deadline="10s", solve=False)
        done = client.wait(job["id"])
        assert (done["state"], done["met_deadline"], done["accuracy"]) == ("completed", True, None)
        grades = list(client.grades(job["id"]))
        assert all(result["num_branches_finished"] == 0 for result in client.results(job["id"]))
    assert [grade["grade"] for grade in grades] == ["right", "wrong", "ungradable"] * 40


def test_a_killed_worker_loses_no_grade_and_grades_nothing_twice(stack: Stack) -> None:
    with stack.client() as client:
        problems = with_submissions(problem_set(40))
        # Algebra for some, so that grading takes its time.
        for number, problem in enumerate(problems):
            problem["submissions"].append(Submission(id="dan", answer=f"\\sqrt{{{number**2}}}"))
        job = client.submit(problems, model=MODEL, deadline="90s", max_branches=4)

        def graded() -> dict[tuple[str, str | None], str | None]:
            rows = client.grades(job["id"])
            return {
                (row["problem_id"], row["submission_id"]): row["graded_at"]
                for row in rows
                if row["submission_id"] and row["graded_at"]
            }

        stack.wait_until(lambda: len(graded()) >= 20)
        before = graded()
        stack.kill("worker-replay")
        done = client.wait(job["id"])
        assert done["state"] == "completed"
        after = graded()
        rows = [row for row in client.grades(job["id"]) if row["submission_id"]]
    # A grade that was stored is not made again.
    assert before.items() <= after.items()
    assert [row["grade"] for row in rows] == ["right", "wrong", "ungradable", "right"] * 40


def test_a_sheet_goes_in_and_a_grade_book_comes_out(stack: Stack, tmp_path: Path) -> None:
    sheet = tmp_path / "answers.csv"
    sheet.write_text(
        "id,prompt,reference_answer,submission_ann,submission_bob\n"
        'p0,Say 0.,0,"We get\n#### 0.0",1\n'
        "p1,Say 1.,1,2/2,one\n"
    )
    running = stack.running
    env = {"SLACKLINE_URL": running.api_url, "SLACKLINE_API_KEY": running.api_key}
    done = subprocess.run(
        slackline("grade", str(sheet), "--deadline", "30s", "--no-solve"),
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 right, 2 wrong, 0 ungradable" in done.stdout
    with (tmp_path / "answers.grades.csv").open(newline="") as book:
        grades = [(r["problem_id"], r["submission_id"], r["grade"]) for r in csv.DictReader(book)]
    assert grades == [
        ("p0", "ann", "right"), ("p0", "bob", "wrong"),
        ("p1", "ann", "right"), ("p1", "bob", "wrong"),
    ]  # fmt: skip
    told = subprocess.run(
        slackline("grade", str(sheet), "--deadline", "30s", "--no-solve", "--json"),
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stderr) == (0, "")
    *looks, last = map(json.loads, told.stdout.splitlines())
    assert looks[-1]["state"] == "completed"
    assert last["submissions"] == {"right": 2, "wrong": 2, "ungradable": 0}
    assert last["output"] == str(tmp_path / "answers.grades.csv")
