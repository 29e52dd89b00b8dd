"""What schemathesis has to be told: how JSON Lines go over the wire."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def send_lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """A text of lines, which need not be any."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
