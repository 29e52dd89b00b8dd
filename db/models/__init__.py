"""Tables of the store. CHECK constraints tie columns to states; a branch row is its trace."""

from db.models.base import Base
from db.models.files import File, FileChunk
from db.models.history import HistoryHour, Rollup
from db.models.jobs import Job, JobEvent
from db.models.openai_batches import OpenaiBatch, OpenaiBatchJob, RefusedLine
from db.models.parts import JobPart
from db.models.profiles import LearnedProfile
from db.models.refusals import Refusal
from db.models.submissions import Submission
from db.models.tenants import ApiKey, IdempotencyKey, Scope, Tenant
from db.models.webhooks import Webhook, WebhookDelivery
from db.models.work import Batch, Branch, Problem
from db.models.workers import Worker

__all__ = [
    "ApiKey",
    "Base",
    "Batch",
    "Branch",
    "File",
    "FileChunk",
    "HistoryHour",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "JobPart",
    "LearnedProfile",
    "OpenaiBatch",
    "OpenaiBatchJob",
    "Problem",
    "Refusal",
    "RefusedLine",
    "Rollup",
    "Scope",
    "Submission",
    "Tenant",
    "Webhook",
    "WebhookDelivery",
    "Worker",
]
