"""Runs the commands of `docs/api.md` and records what came, for it and for the OpenAPI document.

The page keeps its words and what it leaves out of answers; ids, times and numbers become those of
this run. So both tell of one run, to which a test holds them.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from api.app import create_app
from api.settings import ApiSettings
from infra.demo_engines import DEMO_MODEL_DIR
from tests.console import Console, Ran, Step, shown_again, steps_of
from tests.replay_files import replay_environment
from tests.stack import open_folder, running_stack
from worker.demo_model.problems import NUM_SHIPPED, RECORDED_SEED, held_out_problems

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
EXAMPLES = ROOT / "api" / "examples.json"
MODEL = "slackline-demo"
_MAX_ITEMS = 2
_MAX_CHARS = 400
_SECRET = re.compile(r"(sk-slk-|whsec_)[\w+/=-]{16,}")


@contextmanager
def console_of_the_page() -> Iterator[Console]:
    """A shell beside a whole Slackline that replays the demo model."""
    with open_folder() as folder:
        env = replay_environment(folder / "replay", model=MODEL)
        env["SLACKLINE_RECORDINGS"] = str(DEMO_MODEL_DIR / "recordings.jsonl.gz")
        recorded = held_out_problems(RECORDED_SEED, NUM_SHIPPED)
        lines = (json.dumps({"prompt": problem.prompt}) + "\n" for problem in recorded)
        Path(env["SLACKLINE_PROBLEMS"]).write_text("".join(lines))
        with running_stack(folder / "data", "replay", env=env) as stack:
            desk = folder / "desk"
            desk.mkdir()
            running = stack.running
            shell_env = {
                "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
                "SLACKLINE_URL": running.api_url,
                "SLACKLINE_API_KEY": running.api_key,
            }
            with Console.open(desk, shell_env) as console:
                yield console


def examples_of(runs: list[Ran], folder: Path) -> dict[str, dict[str, Any]]:
    """The first success of each operation, as `api.examples` wants it.

    Args:
        folder: Where the commands ran.
    """
    document = create_app(ApiSettings(database_url="postgresql://nowhere/")).openapi()
    examples: dict[str, dict[str, Any]] = {}
    for ran in runs:
        operation = operation_of(ran.step, document["paths"])
        if operation is None or not ran.output:
            continue
        status, kind = _status_of(ran.head), _content_type_of(ran.head)
        if status >= 400 or operation in examples:
            continue
        example: dict[str, Any] = {"status": status, "response_type": kind}
        is_json = kind == "application/json"
        example["response"] = _short(json.loads(ran.output) if is_json else ran.output)
        body, form = _after(ran.arguments, "-d"), _form_of(ran.arguments, folder)
        if body is not None:
            example |= {"request_type": "application/json", "request": json.loads(body)}
        elif form:
            example |= {"request_type": "multipart/form-data", "request": form}
        examples[operation] = example
    return dict(sorted(examples.items(), key=lambda item: item[0].split()[::-1]))


def operation_of(step: Step, paths: Mapping[str, Any]) -> str | None:
    """Method and path of a call; None for other commands, such as loops that wait for something."""
    words = tuple(shlex.split(step.command.replace("$SLACKLINE_URL", "http://slackline")))
    if words[0] != "curl":
        return None
    (url,) = (word for word in words if word.startswith("http"))
    asked = re.sub(r"^https?://[^/]+|\?.*", "", url)
    sends = {"-d", "-F", "--data-binary"} & set(words)
    method = _after(words, "-X") or ("POST" if sends else "GET")
    for path, methods in paths.items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", path)
        if re.fullmatch(pattern, asked) and method.lower() in methods:
            return f"{method} {path}"
    return None


def page_of(runs: list[Ran], console: Console) -> str:
    """The page with what came in these runs."""
    page = PAGE.read_text()
    parts = []
    done = 0
    for ran in runs:
        start = page.index(ran.step.output, page.index(ran.step.command, done))
        parts += [console.with_ids_of_this_run(page[done:start])]
        parts += [shown_again(ran.step.output, ran.output)]
        done = start + len(ran.step.output)
    return "".join([*parts, page[done:]])


def _after(arguments: tuple[str, ...], flag: str) -> str | None:
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


def _form_of(arguments: tuple[str, ...], folder: Path) -> dict[str, str]:
    """Fields of an upload, files with what is in them."""
    fields = {}
    for flag, given in pairwise(arguments):
        if flag == "-F":
            name, _, value = given.partition("=")
            is_file = value.startswith("@")
            fields[name] = (folder / value[1:]).read_text() if is_file else value
    return fields


def _status_of(head: str) -> int:
    return int(re.findall(r"^HTTP/\S+ (\d+)", head, re.MULTILINE)[-1])


def _content_type_of(head: str) -> str:
    (kind,) = re.findall(r"^content-type: ([^;\s]+)", head, re.MULTILINE | re.IGNORECASE)[-1:]
    return str(kind)


def _short(value: Any) -> Any:
    """Long texts and lists of objects cut, so that the document stays readable, and secrets."""
    if isinstance(value, dict):
        return {name: _short(part) for name, part in value.items()}
    if isinstance(value, list):
        is_of_objects = any(isinstance(part, dict) for part in value)
        return [_short(part) for part in (value[:_MAX_ITEMS] if is_of_objects else value)]
    if isinstance(value, str):
        value = _SECRET.sub(r"\1...", value)
        return value if len(value) <= _MAX_CHARS else value[:_MAX_CHARS].rsplit("\n", 1)[0]
    return value


def main() -> None:
    """Run the page, show it, and write it and the examples anew."""
    with console_of_the_page() as console:
        runs: list[Ran] = []
        for step in steps_of(PAGE):
            ran = console.run(step)
            runs.append(ran)
            sys.stdout.write(f"$ {step.command}\n{ran.output}\n\n")
        examples, page = examples_of(runs, console.folder), page_of(runs, console)
    PAGE.write_text(page)
    EXAMPLES.write_text(json.dumps(examples, indent=1) + "\n")


if __name__ == "__main__":
    main()
