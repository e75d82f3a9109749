"""Tell whether the files of a data folder are still those that were packed.

Sizes and dates do not tell it: rsync and cp give a copy the date of the original. What tells it is
which file it is and when the system noted its last change (inode and ctime), which no program
sets; but asking that of all files takes Python twice as long as the system needs to answer.
Quicker is a question whose answer is short: whether the system noted a change of any file outside
the time in which it had noted the last ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from array import array
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fusion_perception.learning.data.folder import IMAGES, RANGES

# Raise it whenever the content or the checks of a packed file change: older ones are rebuilt.
PACKED_VERSION = '4'
_TABLES = ('.csv', '.yaml', '.npy')
# A file system may note times by a clock that ticks a hundred times a second.
_TICK_NS = 20_000_000
# Some file systems number their files with all 64 bits; an array of signed numbers holds 63.
_INODES = 1 << 63


@dataclass(frozen=True)
class FolderState:
    """What the files of a data folder were like at a time.

    `fingerprint` is the sha256 of names, sizes, modification times, inodes and change times of
    all that is packed: another one may mean no more than a copied folder. `top` is the
    same of what is quickly looked at: the files beside the scenes' folders, and these folders
    themselves, which change with every file that comes, goes or is renamed. The system
    noted the changes of the scenes' files from `first_ns` to `last_ns` (their ctimes); zeros
    stand for not known.
    """

    fingerprint: str
    top: str
    first_ns: int
    last_ns: int

    def as_text(self) -> str:
        """Return this as JSON, for the metadata of a packed file."""
        return json.dumps(vars(self))

    @classmethod
    def from_text(cls, text: str) -> FolderState:
        """Return what `as_text` has written; raises ValueError or TypeError for another text."""
        return cls(**json.loads(text))


def folder_state(path: Path) -> FolderState:
    """Look at every file of a data folder that is packed; of none, where there is none."""
    top, newest_ns = _top(path)
    digest = hashlib.sha256(PACKED_VERSION.encode())
    looks = (_looked_at(path, _TABLES), *(_looked_at(*each) for each in _scene_folders(path)))
    for names, numbers, changed in looks:
        digest.update('\0'.join((str(len(names)), *names)).encode(errors='surrogateescape'))
        digest.update(numbers)
        digest.update(changed)
    first_ns, last_ns = span_of([ns for _, _, times in looks[1:] for ns in times])
    # What changes once this is known must bear a later time than what was seen.
    wait_ns = max(newest_ns, last_ns) + _TICK_NS - time.time_ns()
    time.sleep(min(max(wait_ns, 0), _TICK_NS) / 1e9)
    return FolderState(digest.hexdigest(), top, first_ns, last_ns)


def span_of(times_ns: list[int]) -> tuple[int, int]:
    """Return the first and the last of these times; zeros where they cannot tell one from another.

    Some file systems (FAT, ext3) note whole seconds: what changes a moment later looks the same.
    """
    if not any(ns % 10**9 for ns in times_ns):
        return 0, 0
    return min(times_ns), max(times_ns)


def is_untouched(path: Path, state: FolderState) -> bool:
    """Return whether a data folder is certainly as it was; False says nothing.

    Also False where there is no `find` that knows `-newerct`. What a clock that was set back has
    noted counts as changed, unless it was set to the very time of the last changes.
    """
    if not state.first_ns:
        return False
    with ExitStack() as until_done:
        try:
            searches = [
                until_done.enter_context(_search_for_changes(folder, ending, state))
                for folder, ending in _scene_folders(path)
            ]
        except OSError:
            return False
        same = _top(path)[0] == state.top
        found = [search.communicate()[0] for search in searches]
        return same and not any(found) and not any(search.returncode for search in searches)


def _scene_folders(path: Path) -> tuple[tuple[Path, str], ...]:
    return tuple((path / name, ending) for name, ending in (IMAGES, RANGES))


def _search_for_changes(folder: Path, ending: str, state: FolderState) -> subprocess.Popen[bytes]:
    """Have `find` name the first file that was changed before or after the known times."""
    last, first = (f'@{ns // 10**9}.{ns % 10**9:09}' for ns in (state.last_ns, state.first_ns - 1))
    # An absolute path never looks like a flag; -L looks at the files that links stand for.
    command = ['find', '-L', str(folder.absolute()), '-mindepth', '1', '-maxdepth', '1']
    command += ['-name', f'*{ending}', '(', '-newerct', last, '-o', '!', '-newerct', first, ')']
    return subprocess.Popen(
        [*command, '-print', '-quit'],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _top(path: Path) -> tuple[str, int]:
    """Return the sha256 of what is quickly looked at, and when any of it last changed, ns."""
    names, numbers, changed = _looked_at(path, _TABLES)
    folders = [folder.stat() for folder, _ in _scene_folders(path) if folder.is_dir()]
    identities = [(folder.st_ino, folder.st_ctime_ns) for folder in folders]
    seen = json.dumps((PACKED_VERSION, names, [*numbers, *changed], identities))
    newest_ns = max((*changed, *(folder.st_ctime_ns for folder in folders)), default=0)
    return hashlib.sha256(seen.encode()).hexdigest(), newest_ns


def _looked_at(
    folder: Path, endings: str | tuple[str, ...]
) -> tuple[list[str], array[int], array[int]]:
    """Return the names in a folder, sorted; size, modification time and inode of each; ctimes.

    Times are in ns. Nothing but what the system takes to answer should stay. Where there is no
    such folder, there are no files. Raises FileNotFoundError for a link that leads nowhere.
    """
    if not folder.is_dir():
        return [], array('q'), array('q')
    # By its handle the system need not walk the folder's path for each file.
    handle = os.open(folder, os.O_RDONLY)
    try:
        every = os.listdir(handle)  # noqa: PTH208  A handle is no path.
        names = sorted(name for name in every if name.endswith(endings))
        numbers, changed = array('q'), array('q')
        stat, add, note = os.stat, numbers.append, changed.append
        for name in names:
            try:
                found = stat(name, dir_fd=handle)
            except OSError as fault:
                raise FileNotFoundError(
                    f'{folder / name} leads nowhere or has just been removed ({fault.strerror}). '
                    'Restore what it stands for, or remove it with its label.'
                ) from None
            add(found.st_size)
            add(found.st_mtime_ns)
            add(found.st_ino % _INODES)
            note(found.st_ctime_ns)
    finally:
        os.close(handle)
    return names, numbers, changed
