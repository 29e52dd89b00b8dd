"""What answers mean is told by their spelling where that suffices, exactly and both ways."""

import pytest

from worker.comparison import Finding, Pair, Tolerance
from worker.spelling import quick_finding

SAME = [
    ("1 1/2", "1.5"),
    ("1\\frac{4}{5}", "9/5"),
    ("\\frac12", "0.5"),
    ("-\\frac{1}{2}", "-0.5"),
    ("1/3", "0.33333"),
    ("2.5e3", "2500"),
    ("3\\cdot10^{4}", "30000"),
    ("6.02 \\times 10^{23}", "602000000000000000000000"),
    ("50%", "50"),
    ("50\\%", "0.5"),
    ("12.5 percent", "1/8"),
    ("$1,000", "1000"),
    ("1{,}000", "1 000"),
    ("\\$18.90", "18.9"),
    ("18 dollars", "18"),
    ("864 \\mbox{ inches}", "864"),
    ("5.4\\text{ cents}", "5.40"),
    ("x = 5", "5"),
    ("**42**", "42"),
    ("$\\text{Evelyn}$.", "EVELYN"),
    ("\\mathbf{1.25}", "1.25"),
    ("52_{8}", "52_8"),
    ("11,\\! 111", "11111"),
    ("\N{MINUS SIGN}3", "-3"),
    ("~5", "5"),
    ("\\(10,\\!080\\)", "10080"),
    ("10,\\!080\\quad", "10080"),
]
DIFFERENT = [
    ("1 1/2", "11/2"),
    ("1/3", "0.333"),
    ("1/3", "0.33334"),
    ("2/3", "0.66666"),
    ("0.1", "0.10000001"),
    ("50%", "5"),
    ("52_8", "52_9"),
    ("-5", "5 dollars"),
    ("40_9", "36_{10}"),
    ("1/2", "2"),
    ("0 to 1", "0"),
    ("1.5 to 2", "3"),
]
OPEN = [
    ("1, 234", "1234"),
    ("2 pi", "2"),
    ("5 million", "5"),
    ("2xy", "2"),
    ("2 xy", "2"),
    ("x=5", "y=5"),
    ("5 apples", "5 oranges"),
    ("1/0", "5"),
    ("\\(2\\) or \\(3\\)", "2"),
    ("10^{9999}", "5"),
    ("1e9999", "5"),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_spellings_of_one_value_are_the_same_both_ways(left: str, right: str) -> None:
    for pair in (Pair(left, right), Pair(right, left)):
        finding = quick_finding(pair)
        assert finding is not None
        assert finding.is_same


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_values_that_differ_are_different_both_ways(left: str, right: str) -> None:
    assert quick_finding(Pair(left, right)) is Finding.DIFFERENT
    assert quick_finding(Pair(right, left)) is Finding.DIFFERENT


def test_a_base_that_nobody_asked_for_is_wrong_and_one_left_out_is_not() -> None:
    assert quick_finding(Pair("18_7", "18")) is Finding.DIFFERENT
    assert quick_finding(Pair("1.25_7", "1.25")) is Finding.DIFFERENT
    assert quick_finding(Pair("18", "18_7")) is None


@pytest.mark.parametrize(("left", "right"), OPEN)
def test_what_spelling_does_not_tell_is_left_to_algebra(left: str, right: str) -> None:
    assert quick_finding(Pair(left, right)) is None


@pytest.mark.parametrize(
    ("answer", "tolerance", "finding"),
    [
        ("10.3", Tolerance(0.3, 0.0), Finding.SAME_NUMBER),
        ("10.31", Tolerance(0.3, 0.0), Finding.DIFFERENT),
        ("9.9", Tolerance(0.0, 0.01), Finding.SAME_NUMBER),
        ("9.89", Tolerance(0.0, 0.01), Finding.DIFFERENT),
        ("11", Tolerance(0.5, 0.1), Finding.SAME_NUMBER),
        ("10", Tolerance(0.0, 0.0), Finding.SAME_NUMBER),
        ("1e300", Tolerance(1e308, 1.0), Finding.SAME_NUMBER),
    ],
)
def test_a_number_may_be_off_by_the_larger_tolerance(
    answer: str, tolerance: Tolerance, finding: Finding
) -> None:
    assert quick_finding(Pair(answer, "10", tolerance)) is finding
