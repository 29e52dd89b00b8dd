"""Serves the page. It shows nothing that the API does not tell, and needs no key itself.

Nothing is built: `static/` holds ES modules, a style sheet and one document for all views. The
library of the charts is the file that the installed package `plotly` carries.
"""

import base64
import hashlib
import html
import re
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from api.dependencies import Settings

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).parent / "static"
_CHARTS = "plotly.min.js"


def _charts_folder() -> Path:
    """Where the installed `plotly` keeps its script; the package itself is not imported."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data"


def _style_hashes(script: Path) -> str:
    """The style sheets that the library of the charts brings along, as the policy names them."""
    sheets = re.findall(rb"\.textContent='([^'\\]*)'", script.read_bytes())
    digests = [base64.b64encode(hashlib.sha256(sheet).digest()).decode() for sheet in sheets]
    return "".join(f" 'sha256-{digest}'" for digest in digests)


_HEADERS = {
    # No script and no style but the files below and what one of them is known to add.
    "Content-Security-Policy": "default-src 'none'; script-src 'self';"
    f" style-src 'self'{_style_hashes(_charts_folder() / _CHARTS)};"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_files = StaticFiles(directory=_STATIC)
_chart_files = StaticFiles(directory=_charts_folder())
_document = (_STATIC / "index.html").read_text(encoding="utf-8")


@router.get("/")
@router.get("/jobs/{job_id}")
@router.get("/history")
@router.get("/calibration")
@router.get("/quote")
def document(settings: Settings) -> HTMLResponse:
    """The one document of all views; in the embedded mode it knows the local key."""
    local_key = html.escape(settings.local_key or "")
    return HTMLResponse(_document.replace("{{local_key}}", local_key), headers=_HEADERS)


@router.get("/page/{name}")
async def file(name: str, request: Request) -> Response:
    """A script or style sheet of the page; an unknown name is a 404."""
    files = _chart_files if name == _CHARTS else _files
    response = await files.get_response(name, request.scope)
    response.headers.update(_HEADERS)
    return response
