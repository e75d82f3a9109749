"""Say a number of things in words that fit it."""

from __future__ import annotations


def counted(count: int, one: str, more: str | None = None) -> str:
    """Return a number with its noun, as '1 scene' or '9,999 scenes'.

    `more` is what follows other numbers than 1: left out, `one` with an s. Both may go on to
    the verb, as in 'pair has' and 'pairs have'.
    """
    return f'{count:,} {one if count == 1 else more or f"{one}s"}'
