"""Name the user's cache: where things are kept that cannot be kept beside what they come of."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path | None:
    """Return this package's folder in it, None for a user without a home, as in a container."""
    given = os.environ.get('XDG_CACHE_HOME')
    try:
        cache = Path(given) if given else Path.home() / '.cache'
    except RuntimeError:
        return None
    return cache / __name__.partition('.')[0]
