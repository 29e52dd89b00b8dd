"""Votes and branches drawn from the types of a profile, for tests of what is said about them."""

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from tests.scheduler.core.worlds import draw_lengths


def draw_votes(profile: AnswerProfile, num_votes: int, rng: np.random.Generator) -> list[int]:
    """Vote classes of one problem in exchangeable order; 0 is right."""
    weights = np.asarray(profile.weights)
    kind = int(rng.choice(weights.size, p=weights.ravel() / weights.sum()))
    row, column = divmod(kind, weights.shape[1])
    wrong: list[int] = []
    votes = []
    for _ in range(num_votes):
        if rng.random() < profile.difficulty[row]:
            votes.append(0)
            continue
        place = rng.random() * (len(wrong) + profile.concentrations[column])
        wrong.append(wrong[int(place)] if place < len(wrong) else max(wrong, default=0) + 1)
        votes.append(wrong[-1])
    return votes


class Branch:
    """A sampled branch: its length and its vote (0 is right)."""

    def __init__(self, problem: int, tokens: float, vote: int | None) -> None:
        self.problem = problem
        self.tokens = tokens
        self.vote = vote


def sample_problems(
    profile: AnswerProfile, num_problems: int, width: int, cap: float, rng: np.random.Generator
) -> list[Branch]:
    """Draw branches from the generative model that `AnswerProfile` describes."""
    weights = np.asarray(profile.weights)
    branches = []
    for problem in range(num_problems):
        kind = rng.choice(weights.size, p=weights.ravel() / weights.sum())
        row, column = divmod(int(kind), weights.shape[1])
        theta = profile.concentrations[column]
        is_right = rng.random(width) < profile.difficulty[row]
        lengths = draw_lengths(profile, row, is_right, rng)
        wrong: list[int] = []
        for tokens, right in zip(lengths.tolist(), is_right.tolist(), strict=True):
            vote: int | None = None
            if tokens <= cap and rng.random() < profile.answer_rates[row]:
                if right:
                    vote = 0
                else:
                    is_new = rng.random() < theta / (theta + len(wrong))
                    vote = len(set(wrong)) + 1 if is_new else int(rng.choice(wrong))
                    wrong.append(vote)
            branches.append(Branch(problem, min(max(tokens, 1.0), cap), vote))
    return branches
