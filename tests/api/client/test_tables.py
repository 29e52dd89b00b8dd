"""Problems and submissions come out of CSV as spreadsheets write it."""

from pathlib import Path

import pytest

from api.client import SlacklineError
from api.client.tables import read_problems


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "answers.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_rows_of_one_id_are_one_problem(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "id,prompt,reference_answer,submission_id,submission\r\n"
        'p1,"1+1, please",2,ann,"It is\n#### 2"\r\n'
        "p1,,,bob,3\r\n"
        "p2,1+2,,,\r\n",
        encoding="utf-8-sig",
    )
    assert read_problems(path) == [
        {
            "id": "p1",
            "prompt": "1+1, please",
            "reference_answer": "2",
            "submissions": [
                {"id": "ann", "text": "It is\n#### 2"},
                {"id": "bob", "text": "3"},
            ],
        },
        {"id": "p2", "prompt": "1+2", "submissions": []},
    ]


def test_columns_may_hold_the_submissions_of_someone(tmp_path: Path) -> None:
    path = write(tmp_path, "prompt,submission_ann,submission_bob\n1+1,2,\n1+2,3,4\n")
    first, second = read_problems(path)
    assert (first["id"], second["id"]) == ("line-2", "line-3")
    assert first["submissions"] == [{"id": "ann", "text": "2"}]
    assert second["submissions"] == [{"id": "ann", "text": "3"}, {"id": "bob", "text": "4"}]


def test_a_column_holds_deadlines_of_problems(tmp_path: Path) -> None:
    path = write(tmp_path, "id,prompt,deadline\np,1+1,20s\nq,1+2,\n")
    first, second = read_problems(path)
    assert first["deadline"] == "20s"
    assert "deadline" not in second


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,question\n1,2\n", "line 1: unknown column 'question'"),
        ("id,submission\n1,2\n", "line 1: there is no column 'prompt'"),
        ("", "line 1: there is no column 'prompt'"),
        ("id,prompt\np,\n", "line 2: the 'prompt' is empty"),
        ("id,prompt\np,a\np,b\n", "line 3: 'p' had another prompt"),
        ("id,prompt,reference_answer\np,a,1\np,a,2\n", "line 3: 'p' had another reference_answer"),
        ("id,prompt,deadline\np,a,1s\np,a,2s\n", "line 3: 'p' had another deadline"),
        ("id,prompt\np,a,b\n", "line 2: it has not 2 cells"),
        ("id,prompt\np\n", "line 2: it has not 2 cells"),
        ('id,prompt\np,"a"b\n', "line 2: ',' expected"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SlacklineError, match=words):
        read_problems(write(tmp_path, text))


def test_another_encoding_is_told(tmp_path: Path) -> None:
    with pytest.raises(SlacklineError, match="not UTF-8"):
        read_problems(write(tmp_path, "prompt\n5 €\n", encoding="cp1252"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SlacklineError, match="Cannot read"):
        read_problems(tmp_path / "none.csv")
