"""Make the folder of a report before the work whose results it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile


@contextmanager
def made_beforehand(out: Path) -> Iterator[Path]:
    """Give a folder that can be written to; leave no new one when what follows fails.

    Raises ValueError or OSError when it cannot be made or written to.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f'{out} is a file. Choose a folder for the report.')
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        try:
            TemporaryFile(dir=out).close()
        except OSError as fault:
            raise ValueError(
                f'Nothing can be written into {out} ({fault.strerror}). Choose another folder '
                'for the report.'
            ) from None
        yield out
    except BaseException:
        if is_new:
            with suppress(OSError):  # It is not empty: what is there may be of use.
                out.rmdir()
        raise
