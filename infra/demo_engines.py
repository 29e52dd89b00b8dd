"""What a worker serves when nobody says what: the shipped demo model, or the shipped recordings."""

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEMO_MODEL_DIR = ROOT / "worker" / "demo_model"
DEMO_DATA_DIR = Path(__file__).parent / "demo_data"
PROFILES_DIR = ROOT / "scheduler" / "profiles"

# No pair to replay: the drafts are measured on the one, the answers fitted to branches of others.
_DEMO_MODEL: Mapping[str, str | Path] = {
    "model": "slackline-demo",
    "model_dir": DEMO_MODEL_DIR / "target",
    "draft_dir": DEMO_MODEL_DIR / "draft",
    "problems": DEMO_MODEL_DIR / "arithmetic.jsonl",
    "recordings": DEMO_MODEL_DIR / "recordings.jsonl.gz",
}

DEMO_SETTINGS: Mapping[str, Mapping[str, str | Path]] = {
    "torch": _DEMO_MODEL,
    "vllm": _DEMO_MODEL,
    "replay": {
        "model": "EXAONE-Deep-32B",
        "recordings": DEMO_DATA_DIR / "recorded_branches_40.jsonl.gz",
        "problems": DEMO_DATA_DIR / "math500_40.jsonl",
        "latency_profile": PROFILES_DIR / "h100-tp4-qwen3-32b.json",
        "answer_profile": PROFILES_DIR / "exaone-deep-32b-math500.json",
    },
}
"""Worker settings by engine."""

_CHOICE = {"torch": "model_dir", "vllm": "model_dir", "replay": "recordings"}
"""The setting that says what an engine serves."""


def demo_settings(
    engine: str, given: Mapping[str, object], environment: Mapping[str, str]
) -> dict[str, str | Path]:
    """Settings to add for the demo; none where somebody chose what the engine serves.

    Args:
        given: Settings of the command line.
        environment: Where `SLACKLINE_` plus the name of a setting may be.
    """

    def is_set(setting: str) -> bool:
        return setting in given or f"SLACKLINE_{setting.upper()}" in environment

    if engine not in DEMO_SETTINGS or is_set(_CHOICE[engine]):
        return {}
    return {name: value for name, value in DEMO_SETTINGS[engine].items() if not is_set(name)}
