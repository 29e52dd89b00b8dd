"""vLLM's scheduler with a draft length per branch; runs in vLLM's engine core process.

Theory of operation: vLLM drafts one number of tokens per step for its whole batch and verifies
whatever drafts each request has. So a step drafts as many tokens as the longest draft of its
branches, and each branch's drafts are cut to its own length before they are scheduled. The length
travels in `SamplingParams.extra_args`. Of a branch that is aborted vLLM tells nothing more; here
its end is told like any other, with what was drafted and accepted.

vLLM calls these hooks its own affair, so its version is pinned and the tests look at the widths.
Synchronous scheduling delivers drafts to the scheduler, asynchronous scheduling takes placeholders
from it; the class must match, see `arguments.py`.
"""

from collections.abc import Iterable
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.outputs import DraftTokenIds
from vllm.v1.request import Request, RequestStatus

DRAFT_LENGTH = "draft_len"
"""Key of `SamplingParams.extra_args`; over HTTP, of `vllm_xargs`."""


class _PerBranch(Scheduler):  # type: ignore[misc]
    """What both variants share."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._aborted: list[Request] = []

    def _draft_length(self, request: Request) -> int:
        params = request.sampling_params
        longest: int = self.num_spec_tokens
        asked = (params.extra_args or {}).get(DRAFT_LENGTH, longest) if params else longest
        return max(0, min(int(asked), longest))

    def _update_after_schedule(self, scheduler_output: SchedulerOutput) -> None:
        """The last hook before a step: say how much it drafts."""
        branches = scheduler_output.num_scheduled_tokens
        scheduler_output.num_spec_tokens_to_schedule = max(
            (self._draft_length(self.requests[i]) for i in branches), default=0
        )
        super()._update_after_schedule(scheduler_output)

    def finish_requests(
        self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus
    ) -> list[Request]:
        """Remember aborted requests, to tell their ends with the next outputs."""
        ended: list[Request] = super().finish_requests(request_ids, finished_status)
        if finished_status == RequestStatus.FINISHED_ABORTED:
            self._aborted += ended
        return ended

    def update_from_output(self, *args: Any) -> dict[int, EngineCoreOutputs]:
        """Add the ends of aborted requests, which are in no step any more."""
        outputs: dict[int, EngineCoreOutputs] = super().update_from_output(*args)
        aborted, self._aborted = self._aborted, []
        for request in aborted:
            of_client = outputs.setdefault(request.client_index, EngineCoreOutputs())
            of_client.outputs.append(
                EngineCoreOutput(
                    request_id=request.request_id,
                    new_token_ids=[],
                    finish_reason=FinishReason.ABORT,
                    events=request.take_events(),
                    spec_decode_metrics=request.spec_decode_metrics,
                )
            )
        return outputs


class PerBranchScheduler(_PerBranch):
    """For synchronous scheduling: drafts come back to the scheduler, which cuts them."""

    def update_draft_token_ids(self, draft_token_ids: DraftTokenIds) -> None:
        """Keep of each branch's drafts as many as it asked for."""
        ids, drafts = draft_token_ids.req_ids, draft_token_ids.draft_token_ids
        kept = [
            tokens[: self._draft_length(self.requests[i])] if i in self.requests else tokens
            for i, tokens in zip(ids, drafts, strict=True)
        ]
        super().update_draft_token_ids(DraftTokenIds(ids, kept))


class PerBranchAsyncScheduler(_PerBranch, AsyncScheduler):  # type: ignore[misc]
    """For asynchronous scheduling: drafts stay on the device, placeholders say how many."""

    def _update_after_schedule(self, scheduler_output: SchedulerOutput) -> None:
        """Cut each branch's placeholders for its next step."""
        super()._update_after_schedule(scheduler_output)
        for i in scheduler_output.num_scheduled_tokens:
            request = self.requests[i]
            request.spec_token_ids = request.spec_token_ids[: self._draft_length(request)]
