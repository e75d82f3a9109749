"""Keep results out of data folders, whose files could be taken for theirs."""

from __future__ import annotations

from pathlib import Path

from fusion_perception.learning.data.folder import DISTANCES, IMAGES, LABELS, RANGES

_SCENES = {kind for kind, _ in (IMAGES, RANGES, DISTANCES)}


def check_is_apart(out: Path, what: str) -> None:
    """Raise ValueError for a folder for results that is a data folder, or lies among its scenes.

    `what` says in a message whose folder it is to be, as 'the run'. A folder of its own within a
    data folder disturbs nothing.
    """
    target = out.resolve()
    for place in (target, *target.parents):
        inside = target.relative_to(place).parts[:1]
        if inside and inside[0] not in _SCENES:
            continue
        if (place / LABELS).is_file() and (place / RANGES[0]).is_dir():
            where = f"lies among the scenes' files of {place}" if inside else 'is a data folder'
            raise ValueError(
                f'{out} {where}, which stays as it is. Choose another --out for {what}.'
            )
