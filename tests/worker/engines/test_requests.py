"""What a model reads is encoded once for all branches that ask the same."""

from dataclasses import replace

from tests.worker.engines.branches import branch
from worker.engines.base import BranchRequest
from worker.engines.requests import encoded

ASKED = branch("a", "1+1")
OTHERS = [
    replace(ASKED, prompt="1+2"),
    replace(ASKED, partial="It is"),
    replace(ASKED, system_prompt="Be brief."),
    replace(ASKED, turns=(("user", "1"), ("assistant", "?"), ("user", "+1"))),
]


def test_branches_that_ask_the_same_are_encoded_once() -> None:
    seen: list[BranchRequest] = []

    def encode(request: BranchRequest) -> list[int]:
        seen.append(request)
        return [len(seen)]

    requests = [ASKED, *OTHERS, replace(ASKED, branch_id="b", branch_index=1)]
    found = [(request, ids, why) for request, ids, why in encoded(requests, encode)]
    assert found == [
        (request, [i], None) for request, i in zip(requests, (1, 2, 3, 4, 5, 1), strict=True)
    ]
    assert seen == requests[:-1]


def test_what_a_model_cannot_be_asked_harms_no_other() -> None:
    def encode(request: BranchRequest) -> list[int]:
        if request.system_prompt is not None:
            raise ValueError("no place for it")
        return [1]

    whys = [why for _, _, why in encoded([ASKED, *OTHERS], encode)]
    assert whys == [None, None, None, "no place for it", None]
