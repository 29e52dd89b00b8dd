"""The final answer is the last complete box, else what follows the last hashes."""

import pytest

from scheduler.core.branch_options import AnswerFormat
from worker.answers import extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{42}.", "42"),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        ("\\boxed{\\frac{1}{2}} done", "\\frac{1}{2}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed {7}", "7"),
        ("\\fbox{7}", "7"),
        ("\\boxed{a \\boxed{7} b}", "7"),
        ("\\boxed{3} then \\boxed\\{4}", "3"),
        ("\\boxed{3} then \\boxed{4", "3"),
        ("\\boxed{3} then \\boxed{}", "3"),
        ("48/2=24\n#### 24\n", "24"),
        ("#### 1 \n#### 2 apples\nbye", "2 apples"),
        ("#### 5 and \\boxed{6}", "6"),
        ("####   ", None),
        ("\\boxed{", None),
        ("\\boxed", None),
        ("the answer is 5", "5"),
        ("So the final answer is: **72 miles**.", "72"),
        ("Answer: $1,250.50", "1250.50"),
        ("Answer: 5x + 1", "5x + 1"),
        ("The answer is (B).", "(B)"),
        ("Answer: x = 3\nnot more", "x = 3"),
        ("The answer is 5. Wait, no. The answer is 6", "6"),
        ("the answer is 5, \\boxed{6}", "6"),
        ("it makes 5", None),
        ("an answer", None),
        ("", None),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("answer_format", "text", "answer"),
    [
        (AnswerFormat.BOXED, "\\boxed{6} #### 5", "6"),
        (AnswerFormat.BOXED, "#### 5", None),
        (AnswerFormat.HASHES, "\\boxed{6} #### 5", "5"),
        (AnswerFormat.HASHES, "\\boxed{6}", None),
        (AnswerFormat.CHOICE, "\\boxed{C}", "C"),
        (AnswerFormat.CHOICE, "\\boxed{\\text{(c)}}", "C"),
        (AnswerFormat.CHOICE, "A is wrong. The answer is (D) because", "D"),
        (AnswerFormat.CHOICE, "**Answer: B**", "B"),
        (AnswerFormat.CHOICE, "answer: option E.", "E"),
        (AnswerFormat.CHOICE, "I think\n(b) 7 apples", "B"),
        (AnswerFormat.CHOICE, "work\nB", "B"),
        (AnswerFormat.CHOICE, "work\nB. seven\n", "B"),
        (AnswerFormat.CHOICE, "A train leaves", None),
        (AnswerFormat.CHOICE, "the answer is Apples", None),
        (AnswerFormat.CHOICE, "", None),
        (AnswerFormat.NUMBER, "3 and 4 make 7.", "7"),
        (AnswerFormat.NUMBER, "the answer is 7 and not 8", "7"),
        (AnswerFormat.NUMBER, "#### $1,234 in all", "1234"),
        (AnswerFormat.NUMBER, "it is -3.5 degrees", "-3.5"),
        (AnswerFormat.NUMBER, "so 9-5", "5"),
        (AnswerFormat.NUMBER, "a share of 3/4", "3/4"),
        (AnswerFormat.NUMBER, "sets 1,2,3", "3"),
        (AnswerFormat.NUMBER, "+.5", ".5"),
        (AnswerFormat.NUMBER, "none", None),
    ],
)
def test_a_format_says_where_to_look(
    answer_format: AnswerFormat, text: str, answer: str | None
) -> None:
    assert extract_answer(text, answer_format) == answer


@pytest.mark.parametrize("answer_format", AnswerFormat)
def test_a_hostile_text_is_scanned_in_linear_time(answer_format: AnswerFormat) -> None:
    for piece in ("answer is ", "1,", "111,", "(A", "****", "-$1", "answer: ****"):
        extract_answer(piece * 100_000, answer_format)


def test_a_long_text_of_cut_boxes_is_scanned_in_linear_time() -> None:
    assert extract_answer("\\boxed{x" * 300_000) is None
    assert extract_answer("\\boxed" * 300_000) is None
