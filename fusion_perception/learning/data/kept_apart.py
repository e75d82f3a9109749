"""Keep results out of data folders, whose files could be taken for theirs."""

from __future__ import annotations

from pathlib import Path

from fusion_perception.learning.data.folder import DISTANCES, IMAGES, LABELS, RANGES


def lies_among_scenes(path: Path, folder: Path) -> bool:
    """Say whether a path is, or lies in, a folder of the scenes' files of a data folder."""
    kinds = (IMAGES, RANGES, DISTANCES)
    return any(path.resolve().is_relative_to((folder / kind).resolve()) for kind, _ in kinds)


def check_is_apart(out: Path, what: str) -> None:
    """Raise ValueError for a folder for results that is a data folder, or lies among its scenes.

    `what` says in a message whose folder it is to be, as 'the run'. A folder of its own within a
    data folder disturbs nothing.
    """
    target = out.resolve()
    for place in (target, *target.parents):
        if place != target and not lies_among_scenes(target, place):
            continue
        if (place / LABELS).is_file() and (place / RANGES[0]).is_dir():
            where = 'is a data folder'
            if place != target:
                where = f"lies among the scenes' files of {place}"
            raise ValueError(
                f'{out} {where}, which stays as it is. Choose another --out for {what}.'
            )
