"""Fitting answers: a known mixture is recovered, and little data leaves the prior in force."""

from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.fit_answers import fit_answers
from scheduler.core.recorded import RecordedProblem, mark_cut
from tests.scheduler.core.test_votes import draw_votes
from tests.scheduler.core.worlds import ANSWERS, draw_lengths, mean_length


def record(profile: AnswerProfile, num_problems: int, width: int) -> list[RecordedProblem]:
    rng = np.random.default_rng(5)
    weights = np.asarray(profile.weights)
    recordings = []
    for _ in range(num_problems):
        row, column = divmod(int(rng.choice(weights.size, p=weights.ravel())), weights.shape[1])
        votes = draw_votes(profile.difficulty[row], profile.concentrations[column], width, rng)
        lengths = draw_lengths(profile, row, np.array([v == 0 for v in votes]), rng)
        classes = [v if rng.random() < profile.answer_rates[row] else None for v in votes]
        recordings.append(RecordedProblem(tuple(classes), tuple(max(1, round(t)) for t in lengths)))
    return recordings


def fit(recordings: list[RecordedProblem]) -> AnswerProfile:
    return fit_answers(recordings, model="m", family="f", source="synthetic")


def test_a_known_model_is_recovered() -> None:
    profile = fit(record(ANSWERS, 400, 32))
    for width in (1, 4, 16):
        for cap in (400.0, 800.0, 1e9):
            expected = ANSWERS.accuracy_of(width, cap)
            # 400 problems leave a standard error of 0.024.
            assert profile.accuracy_of(width, cap) == pytest.approx(expected, abs=0.06)
    assert mean_length(profile, 1e5) == pytest.approx(mean_length(ANSWERS, 1e5), rel=0.08)
    assert profile.num_problems_seen == 400
    assert profile.num_branches_seen == 400 * 32


def test_one_problem_barely_moves_the_prior() -> None:
    prior = AnswerProfile.uninformed("m")
    lucky = RecordedProblem(classes=(0,) * 8, tokens=(900,) * 8)
    profile = fit([lucky])
    assert prior.accuracy_of(1, 1e9) < profile.accuracy_of(1, 1e9) < 0.75
    assert profile.num_problems_seen == 1


def test_lengths_follow_the_recordings_when_there_are_many() -> None:
    problems = [RecordedProblem((0, 0, 1, 1), (90, 100, 110, 120)) for _ in range(200)]
    profile = fit(problems)
    assert float(profile.length_quantile(0.5)) == pytest.approx(105.0, rel=0.1)


def test_hard_problems_get_longer_scales_when_they_ran_longer() -> None:
    hard = [RecordedProblem((1, 2, 3, 0), (2000, 2100, 1900, 2000)) for _ in range(60)]
    easy = [RecordedProblem((0, 0, 0, 0), (200, 210, 190, 200)) for _ in range(60)]
    profile = fit(hard + easy)
    hardest, easiest = (np.mean(profile.length_scales[row]) for row in (2, -1))
    assert hardest > 3 * easiest


def test_branches_without_an_answer_lower_the_answer_rate() -> None:
    profile = fit([RecordedProblem((0, None, 0, None), (10, 20, 30, 40)) for _ in range(100)])
    assert profile.answer_rates[-1] == pytest.approx(0.5, abs=0.05)


def test_recordings_must_be_complete() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fit([])
    with pytest.raises(ValueError, match="as many classes"):
        RecordedProblem((0, 1), (5,))
    with pytest.raises(ValueError, match="as long as tokens"):
        RecordedProblem((0,), (5,), finished=(True, True))
    with pytest.raises(ValueError, match="failed requests"):
        RecordedProblem((0,), (0,))


def test_lengths_are_recovered_from_branches_cut_by_a_cap() -> None:
    """A third of all branches is cut; leaving them out would shorten the fit by a third."""
    cap = float(ANSWERS.length_quantile(0.67))
    full = record(ANSWERS, 300, 16)
    cut = [
        replace(
            problem,
            tokens=tuple(min(t, int(cap)) for t in problem.tokens),
            finished=tuple(t <= cap for t in problem.tokens),
        )
        for problem in full
    ]
    profile = fit(cut)
    for share in (0.3, 0.6):
        expected = float(fit(full).length_quantile(share))
        assert float(profile.length_quantile(share)) == pytest.approx(expected, rel=0.06)
    truth = mean_length(ANSWERS, 1e5)
    assert mean_length(profile, 1e5) == pytest.approx(truth, rel=0.15)
    stopped = [
        RecordedProblem(
            tuple(c for c, f in zip(p.classes, p.finished, strict=True) if f),
            tuple(t for t, f in zip(p.tokens, p.finished, strict=True) if f),
        )
        for p in cut
        if any(p.finished)
    ]
    assert mean_length(fit(stopped), 1e5) < 0.8 * truth


def test_branches_aborted_when_the_vote_was_decided_do_not_shorten_lengths() -> None:
    """The slower half of each problem's branches is aborted when the faster half has ended."""
    full = record(ANSWERS, 300, 8)
    aborted = []
    for problem in full:
        ends = sorted(problem.tokens)[3]
        aborted.append(
            replace(
                problem,
                tokens=tuple(min(t, ends) for t in problem.tokens),
                finished=tuple(t <= ends for t in problem.tokens),
            )
        )
    expected = mean_length(ANSWERS, 1e5)
    assert mean_length(fit(aborted), 1e5) == pytest.approx(expected, rel=0.1)


def test_votes_of_cut_branches_do_not_count() -> None:
    seen = RecordedProblem((0, 0, 1, 1), (10, 11, 12, 13), finished=(True, True, False, False))
    assert seen.votes == (0, 0, None, None)
    profile = fit([seen] * 100)
    assert profile.accuracy_of(1, 1e9) > 0.95
    assert profile.answer_rates[-1] > 0.98


def test_branches_that_were_all_cut_leave_a_profile_that_is_longer_than_the_cap() -> None:
    profile = fit([RecordedProblem((None,) * 4, (800,) * 4, finished=(False,) * 4)] * 30)
    assert float(profile.finished_share(800.0)) < 0.2
    assert float(profile.length_quantile(0.5)) < 1e6


@pytest.mark.parametrize("width", [1, 2, 16])
def test_lengths_stay_within_reason_when_all_or_nearly_all_branches_were_cut(width: int) -> None:
    cut = RecordedProblem((None,) * width, (64,) * width, (False,) * width)
    once = RecordedProblem((0,) * width, (1,) * width, (True,) + (False,) * (width - 1))
    for recordings in ([cut] * 40, [cut] * 39 + [once], [once] * 40):
        for prior in (None, fit(recordings)):
            profile = fit_answers(recordings, model="m", family="f", source="cut", prior=prior)
            assert 1.0 < profile.length_quantiles[-1] < 1e5


def test_without_references_agreement_teaches_nearly_the_same() -> None:
    """The most popular answer is right on most problems of this model."""
    row = np.asarray(ANSWERS.difficulty) ** 4
    columns = np.array([0.0, 0.0, 1.0, 3.0, 3.0, 1.0])
    weights = np.outer(row / row.sum(), columns / columns.sum())
    profile = replace(ANSWERS, weights=tuple(tuple(r) for r in weights.tolist()))
    labeled = record(profile, 300, 16)
    unlabeled = [
        replace(r, classes=tuple(None if c is None else 7 - c for c in r.classes), is_labeled=False)
        for r in labeled
    ]
    for width in (1, 8):
        expected = fit(labeled).accuracy_of(width, 1e9)
        assert fit(unlabeled).accuracy_of(width, 1e9) == pytest.approx(expected, abs=0.03)
    assert mean_length(fit(unlabeled), 1e5) == pytest.approx(
        mean_length(fit(labeled), 1e5), rel=0.02
    )


def test_unanimous_votes_without_references_leave_the_prior_to_say_if_they_are_right() -> None:
    prior = AnswerProfile.uninformed("m")
    weights = np.full((25, 6), 1e-9)
    weights[0, 0] = 1.0
    wrong = tuple(tuple(row) for row in (weights / weights.sum()).tolist())
    always_wrong = replace(prior, weights=wrong, num_problems_seen=100)
    agreed = [RecordedProblem((4,) * 8, (50,) * 8, is_labeled=False)] * 5
    doubtful = fit_answers(
        agreed, model="m", family="f", source="s", prior=always_wrong, prior_problems=50.0
    )
    assert doubtful.accuracy_of(1, 1e9) < 0.1 < 0.8 < fit(agreed * 20).accuracy_of(1, 1e9)


def test_wrong_answers_that_run_longer_are_noticed() -> None:
    slow_wrong = replace(ANSWERS, wrong_length_ratio=1.3)
    assert fit(record(slow_wrong, 300, 16)).wrong_length_ratio == pytest.approx(1.3, rel=0.05)
    assert fit(record(ANSWERS, 300, 16)).wrong_length_ratio == pytest.approx(1.0, rel=0.05)


def test_problems_of_different_spread_are_told_apart() -> None:
    rng = np.random.default_rng(8)
    problems = [
        RecordedProblem((0,) * 32, tuple(rng.lognormal(7.0, sigma, 32).astype(int).tolist()))
        for sigma in (0.1, 0.5)
        for _ in range(100)
    ]
    profile = fit(problems)
    spreads = np.asarray(profile.length_spreads[-1])
    assert spreads.max() > 2.5 * spreads.min()
    # The shortest of 8 of a narrow problem is longer than that of a pooled distribution.
    truth = np.mean([np.reshape(p.tokens, (4, 8)).min(axis=1).mean() for p in problems])
    ended = profile.finished_share_by_type(np.linspace(1, 4000, 4000))[-1]
    shortest = (1.0 - ended) ** 8
    assert shortest.mean(axis=0).sum() == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("shift", [1, 3])
def test_the_order_of_problems_and_branches_does_not_matter(shift: int) -> None:
    problems = record(ANSWERS, 30, 8)
    turned = [
        RecordedProblem(p.classes[shift:] + p.classes[:shift], p.tokens[shift:] + p.tokens[:shift])
        for p in problems[shift:] + problems[:shift]
    ]
    one, other = fit(problems), fit(turned)
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)
    np.testing.assert_allclose(one.length_quantiles, other.length_quantiles, rtol=1e-6)


def test_a_cap_is_found_where_branches_pile_up() -> None:
    rng = np.random.default_rng(2)
    tokens = rng.lognormal(7.0, 1.0, (40, 8)).astype(int)
    free = [RecordedProblem((0,) * 8, tuple(row)) for row in tokens.tolist()]
    assert mark_cut(free) == free
    capped = [replace(p, tokens=tuple(min(t, 2000) for t in p.tokens)) for p in free]
    marked = mark_cut(capped)
    assert [c for p in marked for c in p.is_cut] == [t == 2000 for p in capped for t in p.tokens]
    assert mark_cut([]) == []
    # Short answers share counts by chance.
    assert not any(p.finished for p in mark_cut([RecordedProblem((0,) * 6, (8, 9, 9, 9, 10, 10))]))


def test_the_shortest_of_many_is_told_from_problems_whose_branches_run_away() -> None:
    """Of half of the problems some branches run away, of the others some are very short."""
    rng = np.random.default_rng(9)
    z = rng.standard_normal((200, 32))
    steep = np.where(z < 0.0, 0.3, 0.9) * z
    turned = np.where(np.arange(200)[:, None] % 2, steep, -steep)
    tokens = np.ceil(1000.0 * np.exp(turned)).astype(int)
    profile = fit([RecordedProblem((0,) * 32, tuple(row)) for row in tokens.tolist()])
    lower, upper = np.asarray(profile.length_spreads[-1]), np.asarray(profile.upper_spreads[-1])
    assert np.corrcoef(np.log(lower), np.log(upper))[0, 1] < -0.8
    ended = profile.finished_share_by_type(np.array([500.0]))[-1, :, 0]
    for width in (1, 8, 32):
        drawn = tokens.reshape(200, -1, width).min(axis=2) <= 500
        # With one spread for both sides it would be off by 0.28 at width 32.
        assert (1.0 - (1.0 - ended) ** width).mean() == pytest.approx(drawn.mean(), abs=0.16)
