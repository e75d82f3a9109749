"""Hold an evaluation against limits and against an earlier one: what a build breaks on."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, NamedTuple, cast

import tyro
from pydantic import Field, field_validator

from fusion_perception.learning.evidence.evidence import Evidence
from fusion_perception.learning.metrics import Scores, distances
from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.json_text import read_json
from fusion_perception.sensing.quoting import quoted, reason
from fusion_perception.sensing.settings import Settings
from fusion_perception.whole_files import write_whole

# What a baseline is held against. Neither the largest error nor the MSE: one scene decides them;
# nor the latency: it says more about the machine.
_COMPARED_ERRORS = {'mean': 'mean error', 'median': 'median error', 'p95': '95 % of errors below'}
_NAME_ONE = 'Name the report.json of an evaluation, or a file that --write-baseline wrote'


class Hits(NamedTuple):
    """At least this share of the centres lies nearer to the truth than the radius, metres."""

    radius: float
    share: float


class GateSettings(Settings):
    """The limits of an evaluation; beyond one of them it exits with code 3."""

    max_error: float | None = Field(
        None, ge=0, description='Exit with code 3 when the mean error exceeds this, metres'
    )
    min_hit_rate: Annotated[tuple[str, ...], tyro.conf.arg(metavar='RADIUS:SHARE ...')] = Field(
        (),
        description='Exit with code 3 when a smaller share of the centres lies within a radius in '
        'metres, such as 0.25:0.95; several may be given',
    )
    baseline: Path | None = Field(
        None,
        description='Exit with code 3 when mean, median or 95th percentile of the error are '
        'higher, or hit rates lower, than in this earlier report.json by more than --tolerance',
    )
    tolerance: str = Field(
        '5%', description='How much worse than --baseline is allowed, relative to its figures'
    )
    write_baseline: Path | None = Field(
        None,
        description='File to write for later --baseline: the figures, without paths and times',
    )

    @field_validator('min_hit_rate')
    @classmethod
    def _are_hit_rates(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            as_hits(one)
        return given

    @field_validator('tolerance')
    @classmethod
    def _is_a_percentage(cls, given: str) -> str:
        as_fraction(given)
        return given


def as_hits(given: str) -> Hits:
    """Read a radius in metres and a share, as in 0.25:0.95; raise ValueError for another form."""
    radius, _, share = given.partition(':')
    try:
        hits = Hits(float(radius), float(share))
    except ValueError:
        hits = Hits(math.nan, math.nan)
    if not (0 < hits.radius < math.inf and 0 <= hits.share <= 1):
        raise ValueError(
            f"'{given}' is no radius with a share. Give metres, a colon and a share from 0 to 1: "
            '0.25:0.95'
        )
    return hits


def as_fraction(given: str) -> float:
    """Read a percentage, as in 5%; raise ValueError for another form."""
    try:
        percent = float(given.removesuffix('%')) if given.endswith('%') else math.nan
    except ValueError:
        percent = math.nan
    if not 0 <= percent < math.inf:
        raise ValueError(f"'{given}' is no percentage. Give one with its sign: 5%")
    return percent / 100


@dataclass(frozen=True)
class Baseline:
    """The figures of an earlier evaluation; errors in metres, hit rates as shares by radius."""

    path: Path
    scenes: int
    classes: tuple[str, ...]
    errors: Mapping[str, float]
    hit_rate: Mapping[str, float]


def read_baseline(path: Path, classes: Sequence[str]) -> Baseline:
    """Read the figures of a report.json that are compared.

    Raises FileNotFoundError where there is none, and ValueError for a file that is torn, of
    another kind, without scores, or about other objects than these classes.
    """
    if path.is_dir():
        remedy = (
            'Name the report.json in it'
            if (path / 'report.json').is_file()
            else f'It has no report.json. {_NAME_ONE}'
        )
        raise ValueError(f'The baseline {path} is a folder. {remedy}.')
    if not path.is_file():
        raise FileNotFoundError(
            f'No baseline at {path}. Write one: fusion evaluate ... --write-baseline {path}'
        )
    try:
        found = read_json(path.read_text(encoding='utf-8'))
    except ValueError as fault:
        raise ValueError(
            f'{path} is no baseline: it is no JSON ({reason(fault)}). {_NAME_ONE}.'
        ) from None
    needed = ('scenes', 'error_m', 'hit_rate', 'source')
    report = found if isinstance(found, dict) else {}
    lacking = [key for key in needed if key not in report]
    if lacking:
        raise ValueError(
            f'The baseline {path} is no report of `fusion evaluate`: it has no '
            f"'{lacking[0]}'. {_NAME_ONE}."
        )
    if report['error_m'] is None:
        raise ValueError(
            f'The baseline {path} has no scores: it was evaluated without ground truth. Take a '
            'report about data with a truth.'
        )
    errors, hit_rate = _mapping(path, report, 'error_m'), _mapping(path, report, 'hit_rate')
    known = tuple(_mapping(path, errors, 'per_class'))
    if set(known) != set(classes):
        raise ValueError(
            f'The baseline {path} is about {", ".join(known)}, the bundle about '
            f'{", ".join(classes)}. Take a report about the same objects.'
        )
    return Baseline(
        path=path,
        scenes=int(_number(path, report, 'scenes')),
        classes=known,
        errors={name: _number(path, errors, name) for name in _COMPARED_ERRORS},
        hit_rate={str(_radius(path, key)): _number(path, hit_rate, key) for key in hit_rate},
    )


def broken_limits(
    settings: GateSettings, evidence: Evidence, baseline: Baseline | None
) -> list[str]:
    """Say which number broke which limit; nothing where all are kept.

    Raises ValueError when there are limits and no truth to hold against them.
    """
    if settings.max_error is None and not settings.min_hit_rate and baseline is None:
        return []
    scores = evidence.scores()
    if scores is None:
        limit = (
            '--max-error' if settings.max_error is not None
            else '--min-hit-rate' if settings.min_hit_rate else '--baseline'
        )  # fmt: skip
        raise _not_scored(limit, evidence)
    return [
        *_against_limits(settings, evidence, scores),
        *(_against_baseline(baseline, settings, evidence, scores) if baseline else ()),
    ]


def other_scenes(baseline: Baseline, scores: Scores) -> list[str]:
    """Say when a baseline was measured on another number of scenes."""
    if baseline.scenes == scores.scenes:
        return []
    return [
        f'The baseline {baseline.path} was measured on {counted(baseline.scenes, "scene")}, '
        f'this on {scores.scenes:,}: they may not be comparable.'
    ]


def check_takes_baseline(path: Path, written: Sequence[Path]) -> None:
    """Raise ValueError where none can be written, or it would overwrite something else.

    `written` is what the same evaluation writes.
    """
    if path.is_dir():
        raise ValueError(f'{path} is a folder. Name a file for the baseline.')
    if path.resolve() in [other.resolve() for other in written]:
        raise ValueError(f'{path} is a part of the report. Name another file for the baseline.')
    if path.name == 'report.json' and (path.parent / 'report.html').exists():
        raise ValueError(
            f'{path} is the report of another evaluation, and would be overwritten. Name another '
            'file for the baseline.'
        )
    try:
        if not path.exists():
            # Its folder is made only when there is a baseline to write.
            above = next(folder for folder in path.absolute().parents if folder.exists())
            TemporaryFile(dir=above).close()
            return
        path.open('ab').close()
        TemporaryFile(dir=path.resolve().parent).close()
    except OSError as fault:
        raise ValueError(
            f'No baseline can be written to {path} ({fault.strerror}). Choose another place.'
        ) from None
    try:
        before = read_json(path.read_text(encoding='utf-8'))
    except ValueError:
        before = None
    if not isinstance(before, dict) or 'error_m' not in before:
        raise ValueError(
            f'{path} is no baseline, and would be overwritten. Name another file, or remove it.'
        )


def why_no_baseline(evidence: Evidence, broken: Sequence[str]) -> str:
    """Return why an evaluation is no baseline, with what to do; '' where it is one."""
    if broken:
        return 'a limit is broken. Correct what broke it, or take these figures without the limit.'
    if evidence.about.get('failed'):
        # A baseline of only some recordings would hold later evaluations to something else.
        return 'a recording could not be evaluated. Correct it or leave it out, and try again.'
    return ''


def write_baseline(path: Path, report: Mapping[str, object], evidence: Evidence) -> None:
    """Write what `read_baseline` needs and what it was measured with, the same on any machine.

    Raises ValueError when there are no scores.
    """
    scores = evidence.scores()
    if scores is None:
        raise _not_scored('--write-baseline', evidence)
    bundle = cast('Mapping[str, object]', report['bundle'])
    figures = {
        **{key: value for key, value in asdict(scores).items() if key != 'calibration'},
        'source': report['source'],
        'bundle': {key: bundle[key] for key in ('model', 'weights_sha256', 'package_version')},
        'versions': report['versions'],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole, and where a link leads: the file there is the one that is kept beside the code.
    write_whole(path.resolve(), json.dumps(figures, indent=2) + '\n')


def _not_scored(flag: str, evidence: Evidence) -> ValueError:
    """Return the refusal of a flag where there are no scores, with what was said of the source."""
    why = ' '.join(cast('Sequence[str]', evidence.about.get('unread', ())))
    said = f'{flag} needs ground truth, and nothing of {evidence.source} could be scored.'
    remedy = f'Record the truth where there is none, or leave {flag} out.'
    return ValueError(' '.join(filter(None, (said, why, remedy))))


def _against_limits(settings: GateSettings, evidence: Evidence, scores: Scores) -> Iterator[str]:
    limit = settings.max_error
    if limit is not None and scores.error_m.mean > limit:
        yield f'mean error {scores.error_m.mean:.5g} m is more than --max-error {limit:g} m'
    for given in settings.min_hit_rate:
        radius, share = as_hits(given)
        found = _hit_rate(evidence, radius)
        if found < share:
            yield (f'hit rate within {radius:g} m {found:.5g} is less than --min-hit-rate {given}')


def _against_baseline(
    baseline: Baseline, settings: GateSettings, evidence: Evidence, scores: Scores
) -> Iterator[str]:
    fraction = as_fraction(settings.tolerance)
    for key, name in _COMPARED_ERRORS.items():
        found, before = getattr(scores.error_m, key), baseline.errors[key]
        if found > before * (1 + fraction):
            yield (
                f'{name} {found:.5g} m is more than --baseline {before:.5g} m '
                f'+ {settings.tolerance}'
            )
    for radius, before in baseline.hit_rate.items():
        found = _hit_rate(evidence, float(radius))
        if found < before * (1 - fraction):
            yield (
                f'hit rate within {radius} m {found:.5g} is less than --baseline {before:.5g} '
                f'- {settings.tolerance}'
            )


def _hit_rate(evidence: Evidence, radius: float) -> float:
    away = distances(evidence.prediction.centers, evidence.truth)
    return float((away < radius).double().mean())


def _mapping(path: Path, values: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = values.get(key)
    if not isinstance(found, dict) or not found:
        raise ValueError(
            f"The baseline {path} has no '{key}'. Write it again: fusion evaluate ... "
            f'--write-baseline {path}'
        )
    return found


def _radius(path: Path, key: str) -> float:
    try:
        return float(key)
    except ValueError:
        raise ValueError(
            f"In the baseline {path} 'hit_rate' has {quoted(key)} for a radius. Write it again: "
            f'fusion evaluate ... --write-baseline {path}'
        ) from None


def _number(path: Path, values: Mapping[str, object], key: str) -> float:
    found = values.get(key)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    # An int of 400 digits becomes no float.
    if not (is_number and abs(cast('float', found)) <= sys.float_info.max):
        said = 'is missing' if key not in values else f'is {quoted(found)}, not a number'
        raise ValueError(
            f"In the baseline {path} '{key}' {said}. Write it again: fusion evaluate ... "
            f'--write-baseline {path}'
        )
    return float(cast('float', found))
