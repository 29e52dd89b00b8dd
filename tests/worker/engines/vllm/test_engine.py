"""vLLM keeps the contract of engines."""

from tests.worker.engines.contract import EngineContract


class TestVllmEngine(EngineContract):
    """The contract, on a tiny random pair of models. Its last test closes the engine."""
