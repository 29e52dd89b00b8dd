"""Commands that load an engine: `slackline worker` and `slackline calibrate`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from api.client.app import App
from api.client.errors import SlacklineError
from api.client.screen import Screen
from infra.demo_engines import demo_settings
from infra.server_commands import DatabaseUrl, RedisUrl, WorkerName

if TYPE_CHECKING:
    from worker.settings import WorkerSettings

Outcome = TypeVar("Outcome")

Model = Annotated[str | None, typer.Option(help="Model name that jobs ask for.")]
ModelDir = Annotated[Path | None, typer.Option(help="Checkpoint of the target.")]
DraftDir = Annotated[Path | None, typer.Option(help="Checkpoint of the draft.")]
Problems = Annotated[
    Path | None,
    typer.Option(help="Problem set of the recordings (replay), or prompts to measure on."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(help="Address of an OpenAI-compatible API, such as http://localhost:8000/v1."),
]
Api = Annotated[
    str | None,
    typer.Option(help="chat (default) or completions: how prompts are sent to an endpoint."),
]
MaxModelLen = Annotated[
    int | None, typer.Option(help="Context length, where the endpoint does not say it.")
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda.")]
MaxNumSeqs = Annotated[int | None, typer.Option(help="Branches that decode together in one step.")]


def add_to(app: App) -> None:
    """Add these commands to the `slackline` command."""
    app.command()(worker)
    app.command()(calibrate)


def worker(
    database_url: DatabaseUrl,
    redis_url: RedisUrl,
    name: WorkerName,
    engine: Annotated[
        str | None, typer.Option(help="torch (default), vllm, openai or replay.")
    ] = None,
    model: Model = None,
    model_dir: ModelDir = None,
    draft_dir: DraftDir = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Branches to replay, or to learn accuracy from (others).")
    ] = None,
    problems: Problems = None,
    latency_profile: Annotated[
        Path | None, typer.Option(help="Measured latency; the machine is measured without one.")
    ] = None,
    answer_profile: Annotated[
        Path | None, typer.Option(help="Learned lengths and accuracy; a prior without one.")
    ] = None,
    device: Device = None,
    max_num_seqs: MaxNumSeqs = None,
    base_url: BaseUrl = None,
    api: Api = None,
    max_model_len: MaxModelLen = None,
) -> None:
    """Solve batches with one engine; the shipped demo model when no checkpoint is named.

    SLACKLINE_* in the environment sets the rest.
    """
    from infra.observed import observed
    from worker.main import run

    settings = _settings(
        database_url=database_url,
        redis_url=redis_url,
        name=name,
        engine=engine,
        model=model,
        model_dir=model_dir,
        draft_dir=draft_dir,
        recordings=recordings,
        problems=problems,
        latency_profile=latency_profile,
        answer_profile=answer_profile,
        device=device,
        max_num_seqs=max_num_seqs,
        endpoint=_given(base_url=base_url, api=api, max_model_len=max_model_len),
    )
    with observed("worker"):
        status = _or_fail(run, settings)
    raise typer.Exit(status)


def calibrate(
    screen: Screen,
    engine: Annotated[str | None, typer.Option(help="torch (default), vllm or openai.")] = None,
    model: Model = None,
    model_dir: ModelDir = None,
    draft_dir: DraftDir = None,
    problems: Problems = None,
    device: Device = None,
    max_num_seqs: MaxNumSeqs = None,
    base_url: BaseUrl = None,
    api: Api = None,
    max_model_len: MaxModelLen = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the profile; where workers look by default.")
    ] = None,
) -> None:
    """Measure an engine thoroughly, on this machine or behind a URL; write its latency profile."""
    from worker.engines.factory import calibrate_engine

    settings = _settings(
        # Nothing is stored or sent.
        database_url="",
        redis_url="",
        name="calibrate",
        engine=engine,
        model=model,
        model_dir=model_dir,
        draft_dir=draft_dir,
        problems=problems,
        device=device,
        max_num_seqs=max_num_seqs,
        endpoint=_given(base_url=base_url, api=api, max_model_len=max_model_len),
    )
    measured = _or_fail(lambda it: calibrate_engine(it, out), settings)
    screen.show({"latency_profile": str(measured)}, lambda it: it["latency_profile"])


def _settings(**options: Any) -> "WorkerSettings":
    """Worker settings of the options that were given, completed for the demo."""
    from infra.wrong_settings import naming_wrong_settings
    from worker.settings import WorkerSettings

    given = _given(**options)
    engine = given.get("engine") or os.environ.get("SLACKLINE_ENGINE", "torch")
    settings: dict[str, Any] = {**given, **demo_settings(engine, given, os.environ)}
    with naming_wrong_settings():
        return WorkerSettings(**settings)


def _given(**options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _or_fail(act: Callable[["WorkerSettings"], Outcome], settings: "WorkerSettings") -> Outcome:
    """What `act` returns; a setting that is missing ends the command with its message."""
    from worker.engines.factory import SettingsError

    try:
        return act(settings)
    except SettingsError as error:
        raise SlacklineError(str(error), code="invalid_setting") from None
