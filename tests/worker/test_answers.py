"""The final answer is the last complete box, else what follows the last hashes."""

import pytest

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
        ("\\boxed{3} then \\boxed{4", "3"),
        ("\\boxed{3} then \\boxed{}", "3"),
        ("48/2=24\n#### 24\n", "24"),
        ("#### 1 \n#### 2 apples\nbye", "2 apples"),
        ("#### 5 and \\boxed{6}", "6"),
        ("####   ", None),
        ("\\boxed{", None),
        ("\\boxed", None),
        ("the answer is 5", None),
        ("", None),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


def test_a_long_text_of_cut_boxes_is_scanned_in_linear_time() -> None:
    assert extract_answer("\\boxed{" * 3000) is None
