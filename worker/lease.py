"""The right to work on a batch, as the controller asks for it and the heartbeat keeps it."""

import threading
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Lease:
    """One batch that runs here.

    Attributes:
        deadline_at: When its job is due, as of the last beat: a client may change it.
        lost: Set when the batch is not ours any more.
    """

    deadline_at: datetime
    lost: threading.Event = field(default_factory=threading.Event)
