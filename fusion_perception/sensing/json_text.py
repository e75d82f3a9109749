"""Read JSON that others wrote."""

from __future__ import annotations

import json

from fusion_perception.sensing.quoting import reason


def read_json(text: str) -> object:
    """Return what a JSON text holds; raise ValueError, in one line, for whatever is none.

    That is also one of more brackets than Python follows, or of a number with too many digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ValueError(reason(fault)) from None
