"""The `~` of paths that no shell has resolved."""

from contextlib import suppress
from pathlib import Path


def from_home(path: str | Path) -> Path:
    """Return a path with `~` and `~user` resolved, and unchanged where there is no such user.

    It will then be said not to exist, as any other that is misspelt.
    """
    with suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)
