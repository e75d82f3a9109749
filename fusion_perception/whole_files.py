"""Write a text file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def written_whole(path: Path, errors: str = 'strict') -> Iterator[TextIO]:
    """Give a UTF-8 file to write that takes its place in one step, when all is written.

    Whoever cannot finish it leaves the one before. `errors` is that of `open`. Raises OSError that
    names the file.
    """
    draft = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with draft.open('w', encoding='utf-8', errors=errors) as file:
            yield file
        draft.replace(path)
    except OSError as fault:
        # What a full disk raises names none, and the draft is nothing that one would know.
        fault.filename, fault.filename2 = str(path), None
        raise
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, text: str, errors: str = 'strict') -> None:
    """Write a text as `written_whole` does."""
    with written_whole(path, errors) as file:
        file.write(text)
