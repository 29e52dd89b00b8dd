"""The replay engine: recorded branches of a real model in the time that a latency profile says."""

from worker.engines.replay.engine import ReplayEngine, VirtualReplayEngine
from worker.engines.replay.recordings import Recordings, load_recordings

__all__ = ["Recordings", "ReplayEngine", "VirtualReplayEngine", "load_recordings"]
