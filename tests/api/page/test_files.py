"""The files of the page: served as they are, under a policy that lets nothing else run."""

import re
from pathlib import Path

import httpx
import pytest

import api.page
from tests.api.conftest import Serve
from tests.api.live import LOCAL_KEY, error_of

_STATIC = Path(api.page.__file__).parent / "static"
_VIEWS = ["/", "/jobs/job_1", "/history", "/calibration", "/quote"]


@pytest.mark.parametrize("path", _VIEWS)
def test_every_view_is_one_document_that_runs_no_script_but_its_files(url: str, path: str) -> None:
    response = httpx.get(url + path)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    policy = dict(
        part.strip().split(" ", 1)
        for part in response.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert re.fullmatch(r"'self'( 'sha256-[\w+/=]+')*", policy["style-src"])
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", response.text)


def test_every_file_is_served_and_asks_no_other_host(url: str) -> None:
    names = {path.name for path in _STATIC.iterdir()}
    assert {"index.html", "app.js", "style.css"} <= names

    for name in names:
        response = httpx.get(f"{url}/page/{name}")
        assert response.status_code == 200
        assert response.text == (_STATIC / name).read_text()
        assert set(re.findall(r"https?://[\w.]+", response.text)) <= {"http://www.w3.org"}
        for imported in re.findall(r'from "\./(\w+\.js)"|import\("\./(\w+\.js)"\)', response.text):
            assert set(imported) - {""} <= names


def test_the_library_of_the_charts_comes_from_its_package(url: str) -> None:
    response = httpx.get(f"{url}/page/plotly.min.js")

    assert response.status_code == 200
    assert "javascript" in response.headers["content-type"]
    again = httpx.get(
        f"{url}/page/plotly.min.js", headers={"If-None-Match": response.headers["etag"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize("name", ["nothing.js", "%2e%2e%2froutes.py", "..%5croutes.py"])
def test_other_files_are_not_served(url: str, name: str) -> None:
    response = httpx.get(f"{url}/page/{name}")

    assert response.status_code == 404
    assert error_of(response)["message"]


def test_the_document_knows_the_local_key_in_the_embedded_mode_only(serve: Serve) -> None:
    assert f'content="{LOCAL_KEY}"' in serve().get("/").text
    assert 'name="local-key" content=""' in serve(local_key=None).get("/").text
    assert "&quot;&gt;&lt;" in serve(local_key='"><script>').get("/").text
