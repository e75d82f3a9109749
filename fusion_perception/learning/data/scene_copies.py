"""Make a data folder of any number of scenes out of a few, to measure what the number costs."""

from __future__ import annotations

import shutil
from pathlib import Path

from fusion_perception.learning.data.folder import IMAGES, LABELS, RANGES


def repeated(folder: Path, out: Path, count: int) -> Path:
    """Write a data folder of `count` scenes that repeat those of another one, as links.

    Each is read as any other; on the disk they take no room but their names.
    """
    out.mkdir(parents=True)
    for file in folder.iterdir():
        if file.suffix in ('.yaml', '.npy'):
            shutil.copy2(file, out)
    header, *lines = (folder / LABELS).read_text(encoding='utf-8-sig').splitlines()
    rows = [line for line in lines if line.strip()]  # As they are read: empty ones do not count.
    lines = [header, *(rows[index % len(rows)] for index in range(count))]
    (out / LABELS).write_text('\n'.join((*lines, '')))
    for kind, suffix in (IMAGES, RANGES):
        (out / kind).mkdir()
        originals = (folder / kind).resolve()
        for index in range(count):
            source = originals / f'{index % len(rows):04d}{suffix}'
            (out / kind / f'{index:04d}{suffix}').symlink_to(source)
    return out
