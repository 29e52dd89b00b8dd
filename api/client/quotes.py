"""Draws quotes and explanations in the terminal."""

from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from api.client.display import branches_text
from api.client.shapes import Decision, Explanation, ForecastBasis, Quote

_BAR_CHARS = 10


def quote_view(quote: Quote) -> RenderableType:
    """The frontier: one row per deadline."""
    table = Table(
        Column("deadline", justify="right", no_wrap=True),
        Column("accuracy", no_wrap=True),
        Column("split", no_wrap=True),
        Column("tokens", justify="right", no_wrap=True),
        Column("finish P50 / P95", no_wrap=True),
        Column("row-s", justify="right", no_wrap=True),
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    is_direct = all(
        row["submit_deadline_s"] in (None, row["deadline_s"]) for row in quote["deadlines"]
    )
    if not is_direct:
        table.add_column("submit with", justify="right")
    for row in quote["deadlines"]:
        accuracy, submit_s = row["accuracy"], row["submit_deadline_s"]
        if accuracy is None:
            table.add_row(seconds(row["deadline_s"]), "cannot be met", style="dim")
            continue
        table.add_row(
            seconds(row["deadline_s"]),
            f"{bar(accuracy)} {accuracy:.1%}",
            f"{branches_text(row['num_branches'], row['max_branches'])}"
            f" x draft {row['num_speculative_tokens']}",
            str(row["max_tokens"]),
            f"{seconds(row['finish_p50_s'])} / {seconds(row['finish_p95_s'])}",
            f"{row['row_seconds']:,.0f}",
            *(() if is_direct else (seconds(submit_s),)),
        )
    lines = [
        f"{quote['num_problems']} problems on {quote['model']}:"
        f" earliest feasible finish in {seconds(quote['earliest_finish_s'])}"
    ]
    if quote["min_accuracy"] is not None:
        shortest_s = quote["shortest_deadline_s"]
        wanted = f"accuracy {quote['min_accuracy']:.1%}"
        lines.append(
            f"No deadline reaches {wanted}."
            if shortest_s is None
            else f"The shortest deadline for {wanted} is {seconds(shortest_s)}."
        )
    return Group(Text("\n".join(lines)), table, Text(_basis(quote["forecast_basis"])))


def explanation_view(explanation: Explanation) -> RenderableType:
    """The decision of now, or else of the admission, and the history."""
    parts: list[RenderableType] = [
        Text(f"{explanation['job_id']} {explanation['state']} ({explanation['verdict']})")
    ]
    decision = explanation["now"] or explanation["admission"]
    if decision is not None:
        when = "Now" if explanation["now"] else "At submission"
        parts += [Text(f"\n{when}: {decision['why']}"), *_decision(decision)]
    history = Table("when", "what", box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for entry in explanation["history"]:
        at = datetime.fromisoformat(entry["at"]).astimezone()
        history.add_row(at.strftime("%H:%M:%S.%f")[:-5], entry["what"])
    parts.append(history)
    stops = explanation["stops"]
    if stops["num_stopped"]:
        parts.append(
            Text(
                f"{stops['num_stopped']} of {stops['num_answered']} answered problems stopped early"
                f" and spared {stops['num_branches_spared']} branches."
            )
        )
    outcome = explanation["outcome"]
    if outcome is not None:
        end = f"Ended {explanation['state']}."
        if explanation["state"] == "completed":
            side = "within" if outcome["within_p95"] else "after"
            end = f"Finished {side} the P95 of the admission."
        accuracy, predicted = outcome["accuracy"], outcome["admitted_accuracy"]
        if accuracy is not None:
            end += f" Accuracy {accuracy:.1%}, predicted {predicted:.1%}."
        parts.append(Text(end))
    return Group(*parts)


def _decision(decision: Decision) -> list[RenderableType]:
    table = Table(
        Column("branches", justify="right"),
        Column("draft", justify="right"),
        Column("tokens", justify="right"),
        Column("needs", justify="right", no_wrap=True),
        Column("accuracy", justify="right"),
        Column("row-s", justify="right"),
        "why",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for candidate in decision["candidates"]:
        table.add_row(
            branches_text(candidate["num_branches"], candidate["max_branches"]),
            str(candidate["num_speculative_tokens"]),
            str(candidate["max_tokens"]),
            seconds(candidate["needed_s"]),
            f"{candidate['accuracy']:.1%}",
            f"{candidate['row_seconds']:,.0f}",
            candidate["why"],
            style="bold" if candidate["fate"] == "chosen" else "",
        )
    jobs = decision["num_jobs_ahead"]
    fleet = (
        f"  {decision['num_problems']} problems, {decision['rows']} rows,"
        f" {seconds(decision['time_left_s'])} left less a reserve of"
        f" {seconds(decision['reserve_s'])}\n"
        f"  ahead: {jobs} {'job' if jobs == 1 else 'jobs'}, {seconds(decision['ahead_s'])} of work"
        f" (95%: {seconds(decision['ahead_p95_s'])})\n"
    )
    return [Text(fleet + f"  {_basis(decision['basis'])}"), table]


def _basis(basis: ForecastBasis) -> str:
    devices = ", ".join(f"{s['num_workers']} x {s['device']}" for s in basis["latency"])
    text = (
        f"forecast: {basis['source']} ({basis['num_problems_seen']} problems,"
        f" {basis['num_branches_seen']} branches); step times of {devices}"
    )
    return text if basis["note"] is None else f"{text}\n  {basis['note']}"


def bar(share: float) -> str:
    """A bar of fixed width."""
    filled = round(share * _BAR_CHARS)
    return "\N{FULL BLOCK}" * filled + "\N{LIGHT SHADE}" * (_BAR_CHARS - filled)


def seconds(value: float | None) -> str:
    """A duration that people read at a glance."""
    if value is None:
        return ""
    if value < 100:
        return f"{value:.1f} s"
    if value < 6_000:
        return f"{value / 60:.1f} min"
    return f"{value / 3_600:.1f} h"
