"""List the files of a data folder that are named by the number of their scene."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.quoting import escaped

_KINDS = {'.png': 'PNG images', '.npy': 'NumPy arrays'}


@dataclass(frozen=True)
class Numbered:
    """The files of one kind, by the number of their scene.

    `unread` says which other files lie there, to be added where some are missing.
    """

    folder: Path
    names: tuple[str, ...]
    unread: str = ''

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Path:
        return self.folder / self.names[index]

    @classmethod
    def among(cls, path: Path, kind: str, suffix: str) -> Numbered:
        """Find the files of a kind in a data folder, each named by its number.

        Raises FileNotFoundError when there is no such folder or a number is missing, and
        ValueError when one comes twice.
        """
        folder = path / kind
        if not folder.is_dir():
            raise FileNotFoundError(
                f'{path} has no folder {kind}. A data folder holds {kind}/0000{suffix} and so on.'
            )
        files: dict[int, str] = {}
        others: list[str] = []
        for name in os.listdir(folder):  # noqa: PTH208  A third of the time.
            stem = name.removesuffix(suffix)
            if stem == name or not stem.isascii() or not stem.isdigit():
                others.append(name)
                continue
            number = int(stem)
            if number in files:
                raise ValueError(
                    f'{folder} holds scene {number} twice: {files[number]} and {name}. Delete one.'
                )
            files[number] = name
        unread = _unread(kind, suffix, [name for name in others if not name.startswith('.')])
        for number in range(len(files)):
            if number not in files:
                raise FileNotFoundError(
                    f'{folder}/{number:04d}{suffix} is missing among '
                    f'{counted(len(files), "file")}{unread}. '
                    'Scenes are numbered from 0 without gaps, as the rows of positions.csv: '
                    'restore it.'
                )
        return cls(folder, tuple(files[number] for number in range(len(files))), unread)


def _unread(kind: str, suffix: str, names: list[str]) -> str:
    if not names:
        return ''
    which = f'{len(names):,} others, such as {escaped(min(names))}, are'
    which = f'{escaped(names[0])} is' if len(names) == 1 else which
    return f'; in {kind} {which} not read: {_KINDS[suffix]} named 0000{suffix} and so on are'
