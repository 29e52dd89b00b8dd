"""What a simulation is given: jobs with recorded branches, and workers with true latencies."""

from dataclasses import dataclass

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec


@dataclass(frozen=True, slots=True)
class SimulatedJob:
    """One submission. Times are seconds of virtual time.

    Attributes:
        problems: Recorded branches of each problem; branch i replays sample i, and the samples
            start over when they run out.
        prompt_tokens: Prompt length of each problem in tokens.
        max_branches: Upper bound on branches per problem asked by the client.
        max_tokens: Upper bound on completion tokens per branch, or None.
        tenant_share: As in `JobView`.
    """

    id: str
    tenant: str
    model: str
    arrival_s: float
    deadline_s: float
    problems: tuple[RecordedProblem, ...]
    prompt_tokens: int
    weight: float = 1.0
    max_branches: int = 64
    max_tokens: int | None = None
    tenant_share: float = 1.0


@dataclass(frozen=True, slots=True)
class SimulatedWorker:
    """One engine: what it does and what the scheduler believes about it.

    Attributes:
        latency: The latency that its steps really take.
        believed_latency: The profile in the snapshot.
        believed_answers: Learned lengths and accuracy in the snapshot.
        num_gpus: Devices that the engine occupies.
    """

    name: str
    spec: EngineSpec
    latency: LatencyProfile
    believed_latency: LatencyProfile
    believed_answers: AnswerProfile
    num_gpus: int = 1
