"""The client's commands; `grade` and `report` have files of their own."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from api.client import completion, costs, display, quotes, shell
from api.client.app import App
from api.client.change_commands import change, retry
from api.client.client import Client
from api.client.completion import JobId
from api.client.follow import follow, outcome
from api.client.grade_command import grade
from api.client.report_command import report
from api.client.screen import Screen
from api.client.webhook_commands import webhooks

app = App()
app.command()(grade)
app.command()(report)
for command in (change, retry):
    app.command()(command)
app.add_typer(webhooks, name="webhooks")


class Format(StrEnum):
    """How results are written."""

    JSONL = "jsonl"
    TABLE = "table"


@app.command()
def submit(
    client: Client,
    screen: Screen,
    file: Annotated[Path, typer.Argument(help="Problems: .jsonl, .json, or - for JSON Lines.")],
    deadline: Annotated[
        str, typer.Option(help='"90s", "10m", "2h", "1d", or an RFC 3339 time with an offset.')
    ],
    model: Annotated[
        str | None, typer.Option(help="Model to ask; the only one served by default.")
    ] = None,
    branches: Annotated[int | None, typer.Option(help="Most branches per problem.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens per branch.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Accuracy asked for, 0 to 1.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes branches repeatable.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="String that ends a branch; repeatable.")
    ] = None,
    system_prompt: Annotated[
        str | None, typer.Option(help="System message, for models with a chat template.")
    ] = None,
    answer_format: Annotated[
        str | None, typer.Option(help="auto, boxed, hashes, choice or number.")
    ] = None,
    closing_text: Annotated[
        str | None,
        typer.Option(help="What makes branches say an answer when the deadline nears."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A label of your own.")] = None,
    family: Annotated[
        str | None, typer.Option(help="Kind of problems, such as algebra; learned by it.")
    ] = None,
    best_effort: Annotated[
        bool,
        typer.Option("--best-effort", help="Accept without a promise rather than be refused."),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
) -> None:
    """Submit a problem set that is due at a deadline."""
    job = client.submit(
        shell.standard_input() if str(file) == "-" else file,
        model=model or shell.only_model(client),
        deadline=deadline,
        name=name,
        max_branches=branches,
        max_tokens=max_tokens,
        min_accuracy=min_accuracy,
        temperature=temperature,
        seed=seed,
        stop=stop,
        system_prompt=system_prompt,
        answer_format=answer_format,
        closing_text=closing_text,
        family=family,
        best_effort=best_effort,
    )
    if watch:
        raise typer.Exit(outcome(follow(client, screen, job["id"])))
    screen.show(job, display.accepted)


@app.command()
def quote(
    client: Client,
    screen: Screen,
    file: Annotated[
        Path | None, typer.Argument(help="Problems: .jsonl, .json, or - for JSON Lines.")
    ] = None,
    deadline: Annotated[
        list[str] | None, typer.Option(help="A deadline to quote; repeatable.")
    ] = None,
    num_problems: Annotated[
        int | None, typer.Option(help="Without a file: how many problems there will be.")
    ] = None,
    prompt_chars: Annotated[
        float | None, typer.Option(help="Without a file: mean characters of a prompt.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to ask; the only one served by default.")
    ] = None,
    branches: Annotated[int | None, typer.Option(help="Most branches per problem.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens per branch.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Accuracy asked for, 0 to 1.")] = None,
    family: Annotated[
        str | None, typer.Option(help="Kind of problems, such as algebra; learned by it.")
    ] = None,
) -> None:
    """Show what each deadline would buy. Nothing is submitted."""
    found = client.quote(
        shell.standard_input() if str(file) == "-" else file,
        model=model or shell.only_model(client),
        deadlines=deadline or (),
        num_problems=num_problems,
        prompt_chars=prompt_chars,
        family=family,
        max_branches=branches,
        max_tokens=max_tokens,
        min_accuracy=min_accuracy,
    )
    screen.show(found, quotes.quote_view)


@app.command()
def explain(client: Client, screen: Screen, job: JobId) -> None:
    """Show why a job is run as it is: the plans weighed, what spoke against each, the history."""
    found = client.explain(job)
    screen.show(found, quotes.explanation_view)


@app.command(name="watch")
def watch_job(client: Client, screen: Screen, job: JobId) -> None:
    """Follow a job to its end. Ctrl-C stops watching, not the job."""
    raise typer.Exit(outcome(follow(client, screen, job)))


@app.command()
def results(
    client: Client,
    screen: Screen,
    job: JobId,
    out: Annotated[Path | None, typer.Option(help="File to write instead of the screen.")] = None,
    layout: Annotated[Format, typer.Option("--format", help="jsonl or table.")] = Format.JSONL,
    branches: Annotated[
        bool, typer.Option("--branches", help="With the latency trace of every branch.")
    ] = False,
) -> None:
    """Write the answers of a job, also while it runs."""
    answers = client.results(job, branches=branches)
    as_table = layout is Format.TABLE and not (screen.as_json or branches)
    with shell.output(out, answers) as (stream, found):
        if as_table:
            Console(file=stream).print(display.results_table(found))
            return
        num_results = 0
        for num_results, result in enumerate(found, start=1):  # noqa: B007
            screen.write(result, stream)
    if out is not None and screen.as_json:
        screen.write({"job_id": job, "output": str(out), "num_results": num_results})


@app.command()
def jobs(
    client: Client,
    screen: Screen,
    state: Annotated[
        str | None,
        typer.Option(help="Only jobs in this state.", autocompletion=completion.job_states),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
) -> None:
    """List your jobs, newest first."""
    found = list(client.jobs(state=state, limit=limit))
    screen.show(found, display.jobs_table)


@app.command()
def cancel(client: Client, screen: Screen, job: JobId) -> None:
    """Stop a job; the answers that are in stay."""
    screen.show(client.cancel(job), lambda job: f"{job['id']} {job['state']}")


@app.command()
def cost(client: Client, screen: Screen, job: JobId) -> None:
    """Show what a job took of the engines: useful, cancelled, rejected drafts and retried."""
    screen.show(client.cost(job), costs.cost_view)


@app.command()
def workers(client: Client, screen: Screen) -> None:
    """List the workers and what they serve."""
    found = client.workers()
    screen.show(found, display.workers_table)
