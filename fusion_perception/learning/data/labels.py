"""Read and write `positions.csv`, and say which centres are possible."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.quoting import quoted
from fusion_perception.whole_files import write_whole

# An object may stand beyond what the LiDAR sees; so many times as far off it is in other units,
# or in another frame.
FARTHEST = 10
_LARGEST = float(np.finfo(np.float32).max)


def read_positions(path: Path) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Read the object names and the centres (N, K, 3), metres in label axes.

    Raises FileNotFoundError for a missing file, and ValueError for a header that is not
    `<object>_x,<object>_y,<object>_z` per object, or a row that is not finite numbers (float32).
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'No {path.name} in {path.parent}. Add it; or, if an interrupted `fusion simulate` '
            'left this folder, delete it and simulate again.'
        )
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError:
        raise ValueError(f'{path} is no text file. Export it as CSV in UTF-8.') from None
    classes = _classes(path, lines[0] if lines else '')
    columns = 3 * len(classes)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = line.split(',')
        if len(cells) != columns:
            raise ValueError(
                f'{path}, line {number}: {len(cells)} values under a header of {columns}. '
                'Give one row of all columns per scene.'
            )
        try:
            row = [float(cell) for cell in cells] if _is_plain(line) else []
        except ValueError:
            row = []
        # NaN is not less than anything.
        if not row or not all(abs(value) < _LARGEST for value in row):
            wrong = next(cell for cell in cells if not _is_finite_number(cell))
            raise ValueError(
                f'{path}, line {number}: {quoted(wrong.strip())} is no finite number. '
                'Every scene needs the centre of every object, in metres.'
            )
        rows.append(row)
    return classes, np.asarray(rows, dtype=np.float64).reshape(-1, len(classes), 3)


def write_positions(path: Path, classes: Sequence[str], positions: NDArray[np.float64]) -> None:
    """Write centres (N, K, 3), metres in label axes; the file appears whole or not at all."""
    header = ','.join(f'{name}_{axis}' for name in classes for axis in 'xyz')
    rows = (','.join(map(repr, row)) for row in positions.reshape(len(positions), -1).tolist())
    write_whole(path, '\n'.join((header, *rows, '')))


def are_possible(centers: NDArray[np.float64], max_range: float) -> NDArray[np.bool_]:
    """Say which centres (..., 3), metres in the LiDAR frame, are finite and not absurdly far."""
    farthest = min(FARTHEST * max_range, _LARGEST)
    # Some fill in the largest float64 where they know nothing: its square would overflow.
    near: NDArray[np.bool_] = np.asarray((np.abs(centers) <= farthest).all(axis=-1))
    away = np.linalg.norm(np.where(near[..., None], centers, 0.0), axis=-1)
    possible: NDArray[np.bool_] = near & (away <= farthest)
    return possible


def check_distances(
    path: Path, classes: Sequence[str], centers: NDArray[np.float64], max_range: float
) -> list[str]:
    """Check how far the centres (N, K, 3) of positions.csv, metres, lie from the LiDAR.

    Returns in a sentence what no ray can reach. Raises ValueError naming the first line that is
    impossible.
    """
    impossible = np.argwhere(~are_possible(centers, max_range))
    if len(impossible):
        row, column = impossible[0]
        away = float(np.hypot.reduce(centers[row, column]))
        raise ValueError(
            f'{path}, line {_line_of(path, row)}: {classes[column]} lies {away:.4g} m from the '
            f'LiDAR, more than {FARTHEST} times max_range = {max_range:g} m. Give its centre in '
            'metres, or correct T_label_lidar or max_range in sensor.yaml.'
        )
    beyond = np.linalg.norm(centers, axis=-1) > max_range
    if not beyond.any():
        return []
    return [
        f'In {path.name} {counted(int(beyond.sum()), "centre lies", "centres lie")} beyond '
        f'max_range = {max_range:g} m, where no ray returns from, the first in line '
        f'{_line_of(path, np.argwhere(beyond)[0, 0])}. Check them, and max_range in sensor.yaml.'
    ]


def _classes(path: Path, header: str) -> tuple[str, ...]:
    names = [name.strip().strip('"') for name in header.split(',')]
    classes = tuple(name.removesuffix('_x') for name in names[::3])
    wanted = [f'{name}_{axis}' for name in classes for axis in 'xyz']
    if names != wanted or '' in classes or len(set(classes)) != len(classes):
        raise ValueError(
            f"{path} begins with '{header[:80]}'. Give a header of "
            '<object>_x,<object>_y,<object>_z for each object, each name once.'
        )
    return classes


def _line_of(path: Path, row: int) -> int:
    """Return the line of the file in which a scene's centres stand; empty ones do not count."""
    lines = path.read_text(encoding='utf-8-sig').splitlines()
    filled = [number for number, line in enumerate(lines[1:], start=2) if line.strip()]
    return filled[row]


def _is_plain(text: str) -> bool:
    # To Python 1_0 is ten, and so are the digits of other scripts.
    return text.isascii() and '_' not in text


def _is_finite_number(cell: str) -> bool:
    try:
        return _is_plain(cell) and abs(float(cell)) < _LARGEST
    except ValueError:
        return False
