"""Equivalent answers share a class, numbered by first finisher and graded once."""

from collections.abc import Callable

import pytest

from worker.comparison import Finding, Pair
from worker.voting import AnswerClass, Ballot

Judge = Callable[[Pair], Finding | None]


def classify(ballot: Ballot, answer: str, judge: Judge) -> AnswerClass:
    """Drive the coroutine and count the vote."""
    steps = ballot.classify(answer)
    try:
        pair = next(steps)
        while True:
            pair = steps.send(judge(pair))
    except StopIteration as found:
        made: AnswerClass = found.value
        ballot.vote(made.number)
        return made


def equal_as_numbers(pair: Pair) -> Finding:
    return Finding.SAME_NUMBER if eval(pair.left) == eval(pair.right) else Finding.DIFFERENT


def never(pair: Pair) -> Finding:
    raise AssertionError(f"nothing to compare, yet asked for {pair}")


def test_classes_are_numbered_by_first_finisher_and_named_as_it_wrote_them() -> None:
    ballot = Ballot("0.5")
    made = [classify(ballot, a, equal_as_numbers).number for a in ["3", "1/2", "0.50", "3.0", "2"]]
    assert made == [0, 1, 1, 0, 2]
    winner = ballot.winner()
    assert winner is not None
    vote, chosen = winner
    # Two classes have two votes each, and the one that came first wins.
    assert (vote.vote_class, vote.votes, vote.share) == (0, 2, 0.4)
    assert (chosen.answer, chosen.is_correct) == ("3", False)


def test_a_spelling_that_was_seen_needs_no_comparison() -> None:
    ballot = Ballot(None)
    classify(ballot, "1/2", equal_as_numbers)
    classify(ballot, "0.5", equal_as_numbers)
    assert classify(ballot, " 0.50 ", never).number == 0


def test_a_comparison_without_a_verdict_counts_as_different_and_leaves_the_grade_open() -> None:
    ballot = Ballot("1/2")
    assert classify(ballot, "2/4", lambda _: None).is_correct is None
    assert classify(ballot, "3/6", lambda _: None).number == 1


def test_without_a_reference_nothing_is_graded() -> None:
    assert classify(Ballot(None), "7", never).is_correct is None


def test_branches_without_an_answer_count_in_the_share_only() -> None:
    ballot = Ballot(None)
    ballot.vote(None)
    classify(ballot, "7", never)
    ballot.vote(None)
    winner = ballot.winner()
    assert winner is not None
    assert winner[0].share == pytest.approx(1 / 3)


def test_restored_branches_keep_their_classes_and_their_order() -> None:
    ballot = Ballot("7")
    ballot.restore("8", 0, False)
    ballot.restore("7", 1, True)
    ballot.restore(None, None, None)
    assert ballot.num_finished == 3
    assert classify(ballot, "7.0", never) == AnswerClass(1, "7", True)
    assert classify(ballot, "9", equal_as_numbers).number == 2
    assert (ballot.class_counts, ballot.num_unanswered) == ((1, 2, 1), 1)


def test_a_new_class_does_not_take_the_number_of_a_restored_one() -> None:
    ballot = Ballot(None)
    # The branch that founded class 0 finished but was never stored.
    ballot.restore("8", 1, None)
    assert classify(ballot, "9", equal_as_numbers).number == 2
