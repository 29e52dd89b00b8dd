"""Reads problems and submissions from CSV, as spreadsheets and learning platforms export them."""

import csv
from collections.abc import Iterator
from pathlib import Path

from api.client.errors import SlacklineError
from api.client.shapes import Problem, Submission

_WIDE = "submission_"
_COLUMNS = ("id", "prompt", "reference_answer", "deadline", "submission", "submission_id")
_MAX_FIELD_CHARS = 1_000_000


def read_problems(path: Path) -> list[Problem]:
    """The problems of a CSV file with a header.

    Columns are `id`, `prompt`, `reference_answer`, `deadline`, `submission` and `submission_id`;
    rows with one `id` are one problem with several submissions. A column `submission_NAME` holds
    the submission of NAME. Empty cells are left out.

    Raises:
        SlacklineError: The file cannot be read, or a line is at fault, which the message names.
    """
    problems: dict[str, Problem] = {}
    for line, row in _rows(path):
        prompt = row.get("prompt")
        key = row.get("id") or f"line-{line}"
        problem = problems.get(key)
        if problem is None:
            if not prompt:
                raise _fault(path, line, "the 'prompt' is empty")
            problem = problems[key] = Problem(id=key, prompt=prompt)
        elif prompt and prompt != problem["prompt"]:
            raise _fault(path, line, f"'{key}' had another prompt before; give each its own id")
        reference = row.get("reference_answer")
        if reference and problem.setdefault("reference_answer", reference) != reference:
            raise _fault(path, line, f"'{key}' had another reference_answer before")
        deadline = row.get("deadline")
        if deadline and problem.setdefault("deadline", deadline) != deadline:
            raise _fault(path, line, f"'{key}' had another deadline before")
        problem.setdefault("submissions", []).extend(_submissions(row))
    return list(problems.values())


def _submissions(row: dict[str, str]) -> Iterator[Submission]:
    if text := row.get("submission"):
        key = row.get("submission_id")
        yield Submission(id=key, text=text) if key else Submission(text=text)
    for column, text in row.items():
        if column.startswith(_WIDE) and column not in _COLUMNS and text:
            yield Submission(id=column.removeprefix(_WIDE), text=text)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with the line that it ends on."""
    csv.field_size_limit(_MAX_FIELD_CHARS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            if unknown := [n for n in header if n not in _COLUMNS and not n.startswith(_WIDE)]:
                raise _fault(path, 1, f"unknown column '{unknown[0]}'; known: {_known()}")
            if "prompt" not in header:
                raise _fault(path, 1, f"there is no column 'prompt'; known: {_known()}")
            reader.fieldnames = header
            for row in reader:
                if None in row or None in row.values():
                    raise _fault(path, reader.line_num, f"it has not {len(header)} cells")
                yield reader.line_num, {name: cell.strip() for name, cell in row.items()}
    except OSError as error:
        raise SlacklineError(f"Cannot read {path}: {error.strerror}.", code="file_error") from None
    except UnicodeDecodeError:
        raise SlacklineError(
            f"{path} is not UTF-8; save it as 'CSV UTF-8'.", code="file_error"
        ) from None
    except csv.Error as error:
        raise _fault(path, reader.line_num + 1, str(error)) from None


def _known() -> str:
    return f"{', '.join(_COLUMNS)}, {_WIDE}NAME"


def _fault(path: Path, line: int, what: str) -> SlacklineError:
    return SlacklineError(f"{path}, line {line}: {what}.", code="file_error")
