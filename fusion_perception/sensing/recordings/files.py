"""Find recordings on disk, and the files each of them consists of."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

import yaml

from fusion_perception.sensing.home import from_home
from fusion_perception.sensing.recordings.recorded import unpack
from fusion_perception.sensing.settings import YAML_FAULTS

METADATA = 'metadata.yaml'
Note = Callable[[str], None]
# As `ros2 bag record` names them: a stem, the number of the part, the kind, the compression.
_NAME = re.compile(r'(?P<stem>.*?)(_(?P<part>\d+))?\.(?P<kind>mcap|db3)(?P<zstd>\.zstd)?')
# What a data folder has and no recording.
_LABELS = 'positions.csv'
_LARGEST_METADATA = 1 << 26
# So much of the begin and the end of a file tells it from others.
_TELLING_BYTES = 1 << 16


@dataclass(frozen=True)
class RecordingFiles:
    """The files of one recording in their order, and the ROS distribution that wrote them."""

    files: tuple[Path, ...]
    distribution: str | None = None


def find_recordings(given: Iterable[str | Path]) -> list[Path]:
    """Return the recordings that folders of recordings, recordings, files and globs name.

    Each once, whatever ways lead to it, by the first of them, in the order given and sorted
    within; a file that is read with its folder anyway is none of its own. Raises
    FileNotFoundError for a path or pattern that leads to none, ValueError for a data folder.
    """
    found: dict[Path, Path] = {}
    for name in map(str, given):
        path = from_home(name)
        recordings = [one for place in _places(path) for one in _recordings_in(place, set())]
        if not recordings:
            refuse_data_folder(path)
            raise FileNotFoundError(
                f'There is no recording (.mcap, .db3) in {path}. Give a folder that '
                '`ros2 bag record` wrote, or one that holds such folders.'
            )
        for recording in recordings:
            found.setdefault(recording.resolve(), recording)
    return _without_parts(found)


def check_is_outside(path: Path, recordings: Iterable[Path]) -> None:
    """Raise ValueError for a path to write to that is, or lies in, a recording that is read."""
    target = from_home(path).resolve()
    for recording in recordings:
        place = recording.resolve()
        if place.is_file() and (place.parent / METADATA).exists():
            place = place.parent
        if target == place or place in target.parents:
            raise ValueError(
                f'{path} lies in the recording {recording}, which is read and stays as it is. '
                'Choose another place.'
            )


def fingerprint_of(recording: Path) -> str:
    """Return a sha256 that tells a recording from others, wherever it lies and is named.

    Of each of its files: the size, the begin and the end. Raises as `files_of` does.
    """
    digest = hashlib.sha256()
    for path in files_of(recording, lambda _: None).files:
        with path.open('rb') as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(str(size).encode())
            for begin in (0, max(size - _TELLING_BYTES, 0)):
                file.seek(begin)
                digest.update(file.read(_TELLING_BYTES))
    return digest.hexdigest()


def is_recording(path: Path) -> bool:
    """Say whether a path is a recording: a storage file, or a folder that holds some."""
    return any(map(is_storage, path.iterdir() if path.is_dir() else [path]))


def refuse_data_folder(path: Path) -> None:
    """Raise ValueError where a data folder was given for a recording."""
    if (path / _LABELS).is_file():
        raise ValueError(
            f'{path} is a data folder. Make a recording of it with `fusion to-bag '
            f'{quote(str(path))} --out BAG`; `fusion evaluate` and `doctor` take it as --data.'
        )


def is_storage(path: Path) -> bool:
    """Say whether a file is named as a storage file of a recording is."""
    return _NAME.fullmatch(path.name) is not None and path.is_file()


def files_of(path: Path, note: Note) -> RecordingFiles:
    """Return the files of a recording: a folder, or a single file of one.

    What is missing or left out goes to `note`. Raises FileNotFoundError for a path that does not
    exist and ValueError for a file that is none of a recording.
    """
    if path.name == METADATA:
        path = path.parent
    if not path.exists():
        raise FileNotFoundError(f'No recording at {path}. Check the path.')
    if not path.is_dir():
        if not is_storage(path):
            raise ValueError(
                f'{path} is no .mcap and no .db3 file. Give a recording that `ros2 bag record` '
                'wrote.'
            )
        return RecordingFiles((path,))
    there = sorted(filter(is_storage, path.iterdir()), key=_order)
    if not there:
        refuse_data_folder(path)
    metadata = _metadata(path / METADATA, note)
    listed, distribution = metadata.get('relative_file_paths'), metadata.get('ros_distro')
    names = [Path(str(entry)).name for entry in listed] if isinstance(listed, list) else []
    return RecordingFiles(
        _those_listed(path, names, there, note) if names else _without_twins(there),
        distribution if isinstance(distribution, str) else None,
    )


def readable_copy(file: Path, stack: ExitStack, note: Note) -> Path:
    """Return the file, or a copy in a temporary folder where it has to be unpacked or repaired.

    A database whose recorder was killed has its newest messages in a journal beside it; SQLite
    would merge them where they lie. The stack removes the copy.
    """
    if file.suffix == '.zstd':
        copy = _temporary(stack) / file.stem
        try:
            unpack(file, copy)
        except ValueError as fault:
            note(str(fault))
        return copy
    journals = [file.with_name(file.name + ending) for ending in ('-wal', '-journal')]
    journals = [journal for journal in journals if journal.is_file() and journal.stat().st_size]
    if file.suffix != '.db3' or not journals:
        return file
    folder = _temporary(stack)
    for part in (file, *journals):
        shutil.copyfile(part, folder / part.name)
    copy = folder / file.name
    try:
        with closing(sqlite3.connect(copy)) as database:
            database.execute('PRAGMA journal_mode = DELETE')
    except sqlite3.Error as fault:
        note(f'{journals[0].name} cannot be merged ({fault}).')
    return copy


def _places(path: Path) -> list[Path]:
    """Return the path itself, or what a pattern leads to."""
    if path.exists():
        return [path]
    if not glob.has_magic(str(path)):
        raise FileNotFoundError(f'No recording at {path}. Check the path.')
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
    # A pattern like bags/* also matches what lies beside the recordings.
    return [place for place in matches if place.is_dir() or is_storage(place)]


def _without_parts(found: Mapping[Path, Path]) -> list[Path]:
    """Return the recordings, by where they truly are, but for files that others consist of."""
    # The metadata of these folders say what is read of them; those of others are read in turn.
    folders = {place.parent for place in found if place.is_file()} & set(found)
    within = {
        _packed_or_not(file.resolve())
        for folder in folders
        for file in files_of(folder, lambda _: None).files
    }
    return [one for place, one in found.items() if _packed_or_not(place) not in within]


def _those_listed(
    folder: Path, names: Sequence[str], there: Sequence[Path], note: Note
) -> tuple[Path, ...]:
    """Return the files that a recording's metadata list, or those there if none of them is."""
    files, missing = [], []
    for name in names:
        # `ros2 bag play` leaves the unpacked file beside the packed one; `zstd` packs it.
        twins = (name, name.removesuffix('.zstd'), f'{name}.zstd')
        file = next(filter(is_storage, (folder / twin for twin in twins)), None)
        if file is None:
            missing.append(name)
        else:
            files.append(file)
    if there and not files:
        note(
            f'{METADATA} lists {", ".join(missing)}, of which nothing is there: every storage '
            'file in the folder was read.'
        )
        return _without_twins(there)
    for name in missing:
        note(f'{name}, which {METADATA} lists, is missing.')
    named = {file.name.removesuffix('.zstd') for file in files}
    for file in there:
        if file.name.removesuffix('.zstd') not in named:
            note(f'{file.name} is not listed in {METADATA} and was not read.')
    return tuple(files)


def _recordings_in(place: Path, entered: set[Path]) -> list[Path]:
    """Return the recordings at or below a path, through links too.

    No folder that was `entered` is entered again: a link may lead to where it lies.
    """
    if place.name == METADATA:
        return [place.parent]
    if not place.is_dir():
        return [place]
    if (place / METADATA).exists():
        return [place]
    entered.add(place.resolve())
    files = _without_twins(sorted(filter(is_storage, place.iterdir()), key=_order))
    below = [
        found
        for folder in sorted(place.iterdir())
        if folder.is_dir() and folder.resolve() not in entered
        for found in _recordings_in(folder, entered)
    ]
    if not below and len({_stem(file) for file in files}) == 1:
        return [place]  # The parts of one recording.
    return [*files, *below]


def _metadata(path: Path, note: Note) -> dict[str, object]:
    fault = 'is missing'
    try:
        if path.stat().st_size > _LARGEST_METADATA:
            raise ValueError('it is larger than any')
        values = yaml.safe_load(path.read_text(encoding='utf-8'))['rosbag2_bagfile_information']
        if isinstance(values, dict):
            return values
        fault = 'is damaged'
    except FileNotFoundError:
        pass
    except (OSError, *YAML_FAULTS):
        fault = 'is damaged'
    note(f'{METADATA} {fault}: every storage file in the folder was read.')
    return {}


def _without_twins(files: Sequence[Path]) -> tuple[Path, ...]:
    names = {file.name for file in files}
    return tuple(
        file for file in files if file.name.removesuffix('.zstd') not in names - {file.name}
    )


def _packed_or_not(file: Path) -> Path:
    return file.with_name(file.name.removesuffix('.zstd'))


def _order(file: Path) -> tuple[str, int, str]:
    name = _NAME.fullmatch(file.name)
    assert name is not None
    return name['stem'], int(name['part'] or -1), file.name


def _stem(file: Path) -> str:
    # Parts belong together only where they are numbered.
    name = _NAME.fullmatch(file.name)
    assert name is not None
    return name['stem'] if name['part'] else file.name.removesuffix('.zstd')


def _temporary(stack: ExitStack) -> Path:
    return Path(stack.enter_context(TemporaryDirectory(prefix='fusion-recording-')))
