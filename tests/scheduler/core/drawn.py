"""Votes drawn from the types of a profile, for tests of what is said about them."""

import numpy as np

from scheduler.core.accuracy import AnswerProfile


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
