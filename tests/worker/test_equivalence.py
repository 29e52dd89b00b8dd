"""Equal answers are found, hostile ones are survived, and nothing outlives the worker."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from worker.comparison import Finding, Pair
from worker.equivalence import Equivalence
from worker.spelling import quick_finding


@pytest.fixture(scope="module")
def equivalence() -> Iterator[Equivalence]:
    shared = Equivalence(num_processes=1, limit_s=3.0)
    yield shared
    shared.close()


def compare(equivalence: Equivalence, left: str, right: str) -> bool:
    findings: list[Finding] = []
    settled = threading.Event()

    def done(finding: Finding) -> None:
        findings.append(finding)
        settled.set()

    equivalence.compare(Pair(left, right), done)
    assert settled.wait(40)
    return findings[0].is_same


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("42", " 42 "),
        ("1,000", "1000"),
        ("007", "7"),
        ("3.50", "+3.5"),
        ("-0.0", "0"),
        (".5", "0.5"),
        ("East", "east"),
        ("$5$", "5"),
        ("\\dfrac{1}{2}", "\\frac{1}{2}"),
        ("\\left( 1, 2 \\right)", "(1,2)"),
    ],
)
def test_spellings_of_one_value_are_equal_without_a_process(left: str, right: str) -> None:
    finding = quick_finding(Pair(left, right))
    assert finding is not None
    assert finding.is_same


@pytest.mark.parametrize(("left", "right"), [("42", "43"), ("-1", "1"), ("0.1", "0.10000001")])
def test_plain_numbers_are_told_apart_exactly_without_a_process(left: str, right: str) -> None:
    assert quick_finding(Pair(left, right)) is Finding.DIFFERENT


def test_a_number_of_a_million_digits_is_compared_as_a_string() -> None:
    digits = "9" * 1_000_000
    assert quick_finding(Pair(digits, "9")) is Finding.TOO_LONG


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1/2", "0.5"),
        ("\\frac{1}{2}", "0.5"),
        ("2\\sqrt{3}", "\\sqrt{12}"),
        ("(x+1)^2", "x^2+2x+1"),
        ("50\\%", "0.5"),
        ("\\left(3,\\frac{\\pi}{2}\\right)", "(3, \\pi/2)"),
        ("\\{1,2\\}", "\\{2,1\\}"),
        ("2\\pi r", "2 r \\pi"),
        (
            "\\begin{pmatrix} 1 \\\\ 1/2 \\end{pmatrix}",
            "\\begin{pmatrix} 1 \\\\ 0.5 \\end{pmatrix}",
        ),
    ],
)
def test_algebra_finds_equal_values(equivalence: Equivalence, left: str, right: str) -> None:
    assert compare(equivalence, left, right)


@pytest.mark.parametrize(
    ("left", "right"), [("\\frac{1}{3}", "0.5"), ("x+1", "x-1"), ("}{", "{}{"), ("\\text{A}", "B")]
)
def test_algebra_tells_values_apart(equivalence: Equivalence, left: str, right: str) -> None:
    assert not compare(equivalence, left, right)


def test_hostile_answers_count_as_different_within_the_limit_and_harm_no_other() -> None:
    equivalence = Equivalence(num_processes=1, limit_s=1.0)
    try:
        assert compare(equivalence, "1/2", "0.5")
        for hostile in ("9^{9^{9^{9}}}", "9**9**9**9", "(" * 190 + "1" + ")" * 190, "10^{10^{10}}"):
            started = time.monotonic()
            assert not compare(equivalence, hostile, "x+1")
            # The limit, the kill, and the import of the child that replaces it.
            assert time.monotonic() - started < 20
        assert compare(equivalence, "\\frac{3}{2}", "1.5")
    finally:
        equivalence.close()


def test_a_child_killed_from_outside_is_replaced() -> None:
    equivalence = Equivalence(num_processes=1)
    try:
        assert compare(equivalence, "1/2", "0.5")
        for child in psutil.Process().children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
        # Asked before the pool knows of it, and after.
        assert compare(equivalence, "1/4", "0.25")
        time.sleep(0.5)
        assert compare(equivalence, "3/4", "0.75")
    finally:
        equivalence.close()


def test_results_are_remembered_in_both_orders(equivalence: Equivalence) -> None:
    left, right = "3\\sqrt{2}", "\\sqrt{18}"
    assert equivalence.known(Pair(left, right)) is None
    assert compare(equivalence, left, right)
    assert equivalence.known(Pair(left, right)) is Finding.SAME_VALUE
    assert equivalence.known(Pair(right, left)) is Finding.SAME_VALUE


def test_closing_settles_what_was_being_compared() -> None:
    equivalence = Equivalence(num_processes=1, limit_s=30)
    findings: list[Finding] = []
    equivalence.compare(Pair("9^{9^{9^{9}}}", "x"), findings.append)
    time.sleep(0.2)
    equivalence.close()
    assert findings == [Finding.FAILED]
    assert not compare(equivalence, "1/8", "0.125")


@pytest.mark.parametrize("busy", [False, True])
def test_children_die_with_a_killed_parent(busy: bool) -> None:
    left = "9^{9^{9^{9}}}" if busy else "1/2"
    program = (
        "import time, sys\n"
        "from worker.comparison import Pair\n"
        "from worker.equivalence import Equivalence\n"
        "if __name__ == '__main__':\n"
        "    e = Equivalence(limit_s=4)\n"
        f"    e.compare(Pair({left!r}, '0.5'), lambda found: print(found.is_same, flush=True))\n"
        "    print('started', flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "started\n"
    if not busy:
        assert parent.stdout.readline() == "True\n"
    deadline = time.monotonic() + 20
    while not (children := psutil.Process(parent.pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
