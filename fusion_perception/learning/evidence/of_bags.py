"""Run a bundle over one recording or many, in parallel, and bring together what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from fusion_perception.cores import usable_cores
from fusion_perception.learning.bag import BagRun, outcome_of
from fusion_perception.learning.bags.judging import MODES, WORST, Judged
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.learning.evidence.bag_crew import Task, run_apart
from fusion_perception.learning.evidence.evidence import Evidence, score_of
from fusion_perception.learning.progress import messages_bar
from fusion_perception.learning.run.covariances import stopped_early
from fusion_perception.models.bundle import Bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.findings.agreement import (
    DISAGREEMENT_MAX,
    median_of,
    of_disagreement,
)
from fusion_perception.sensing.ledger import CAUSES, STREAMS, Stream, StreamCounts
from fusion_perception.sensing.observation import Mode, Prediction
from fusion_perception.sensing.recordings.files import find_recordings, fingerprint_of
from fusion_perception.whole_files import written_whole

# Reading keeps no more than so many threads busy.
MOST_WORKERS = 4
# The first columns of predictions.csv; the centres follow.
_COLUMNS = ('bag', 'stamp_ns', 'mode', 'apart_ms')


def from_bags(
    runtime: Runtime,
    given: Sequence[str],
    settings: BagSettings,
    batch_size: int,
    jobs: int,
    disagreement_max: float = DISAGREEMENT_MAX,
) -> Evidence:
    """Evaluate recordings, folders of them and globs; `jobs` processes at a time, 0 one per core.

    A recording that cannot be evaluated is reported among the others (`about['failed']`), and one
    whose sensors disagree by more than `disagreement_max` is a warning.
    Raises ValueError when none can be, FileNotFoundError for a path that leads to none.
    """
    paths = find_recordings(given)
    outcomes = dict(zip(paths, _run_all(runtime, paths, settings, batch_size, jobs), strict=True))
    runs = [outcome for outcome in outcomes.values() if isinstance(outcome, BagRun)]
    failed = {str(path): why for path, why in outcomes.items() if isinstance(why, str)}
    if not runs:
        raise ValueError('\n'.join(failed.values()))
    classes = runtime.bundle.rig.classes
    prediction, truth = scored(runs, classes)
    warnings = learned_from(runtime.bundle, [Path(run.source) for run in runs])
    warnings += stopped_early(runtime.bundle)
    warnings += [
        _of_one(run, str(finding), paths)
        for run in runs
        for finding in of_disagreement(
            median_of(run.disagreements), disagreement_max, run.alignment
        )
    ]
    judged, rows = [run.judged for run in runs], [_row(run, classes) for run in runs]
    return Evidence(
        source=', '.join(map(str, given)),
        prediction=prediction,
        truth=truth,
        by_mode={
            mode: score_of(*scored(runs, classes, mode))
            for mode in MODES
            if mode in prediction.mode
        },
        modes=_modes(judged),
        streams=_summed([run.streams for run in runs]),
        pairs=sum(map(len, judged)),
        latency_ms=[value for run in runs for value in run.latency_ms],
        worst=sorted(
            (frame for run in runs for frame in run.worst), key=lambda frame: -frame.error_m
        )[:WORST],
        runs=runs,
        about={
            **({'warnings': warnings} if warnings else {}),
            'disagreement': median_of([value for run in runs for value in run.disagreements]),
            # Every recording may be of another robot.
            'alignment': rows[0]['alignment'] if len(rows) == 1 else None,
            'unscored': sum(int((~one.scored).sum()) for one in judged),
            'clock_jumps': sum(run.clock_jumps for run in runs),
            'recorded_s': sum(run.seconds for run in runs),
            'bags': rows,
            'failed': failed,
            'unread': [_of_one(run, sentence, paths) for run in runs for sentence in run.unread],
        },
    )


def _of_one(run: BagRun, sentence: str, paths: Sequence[Path]) -> str:
    """Return a sentence about one recording, named where there are others."""
    return sentence if len(paths) == 1 else f'{run.source}: {sentence}'


def learned_from(bundle: Bundle, recordings: Sequence[Path]) -> list[str]:
    """Return a warning for each recording whose scenes a bundle learned from, or was chosen by."""
    learned, chosen_by = (
        {told['recording'] for told in folders if 'recording' in told}
        for folders in (bundle.folders_learned, bundle.folders_validating)
    )
    warnings = []
    for path in recordings if learned | chosen_by else ():
        recording = fingerprint_of(path)
        if recording in learned:
            warnings.append(
                f'{bundle.path} learned from {path} itself, by the data folder that `fusion '
                'from-bag` made of it: on others it is further off. Judge it on another recording.'
            )
        elif recording in chosen_by:
            warnings.append(
                f'By scenes of {path} the best epoch of {bundle.path} was chosen, from the data '
                'folder that `fusion from-bag` made of it. Judge it on another recording.'
            )
    return warnings


def scored(
    runs: Sequence[BagRun], classes: tuple[str, ...], mode: Mode | None = None
) -> tuple[Prediction, torch.Tensor]:
    """Return the predictions that have a truth, of all modes or of one, and the truth."""
    centers, covariances, truths, modes = [], [], [], []
    for run in runs:
        judged = run.judged
        chosen = judged.scored
        if mode is not None:
            chosen = chosen & (judged.modes == MODES.index(mode))
        centers.append(torch.from_numpy(judged.centers[chosen]))
        truths.append(torch.from_numpy(judged.truth[chosen]))
        modes += [MODES[index] for index in judged.modes[chosen].tolist()]
        if judged.covariance is not None:
            covariances.append(torch.from_numpy(judged.covariance[chosen]))
    covariance = torch.cat(covariances) if covariances else None
    return Prediction(torch.cat(centers), covariance, classes, tuple(modes)), torch.cat(truths)


def write_predictions(path: Path, runs: Sequence[BagRun], classes: Sequence[str]) -> None:
    """Write every prediction as a row: metres, LiDAR frame; nothing where there is no truth."""
    axes = [f'{name}_{axis}' for name in classes for axis in 'xyz']
    header = [*_COLUMNS, *axes, *(f'true_{axis}' for axis in axes)]
    # The name of a recording need not be UTF-8.
    with written_whole(path, errors='backslashreplace') as file:
        file.write(','.join(header) + '\n')
        for run in runs:
            file.writelines(_lines(run))


def remove_predictions(path: Path) -> None:
    """Remove what `write_predictions` wrote earlier, and no other file of that name."""
    if path.is_file():
        with path.open('rb') as file:
            is_ours = file.readline().startswith(','.join(_COLUMNS).encode())
        if is_ours:
            path.unlink()


def _lines(run: BagRun) -> Iterator[str]:
    judged = run.judged
    name = run.source.replace('"', '""')
    for index in range(len(judged)):
        numbers = np.concatenate((judged.centers[index].ravel(), judged.truth[index].ravel()))
        yield (
            ','.join(
                (
                    f'"{name}"',
                    str(judged.stamps_ns[index]),
                    MODES[judged.modes[index]],
                    f'{judged.apart_ms[index]:.6f}',
                    *('' if np.isnan(value) else f'{value:.6f}' for value in numbers.tolist()),
                )
            )
            + '\n'
        )


def _run_all(
    runtime: Runtime, paths: Sequence[Path], settings: BagSettings, batch_size: int, jobs: int
) -> list[BagRun | str]:
    jobs = min(len(paths), jobs or usable_cores())
    if jobs == 1:
        return [_run_here(runtime, path, settings, batch_size) for path in paths]
    task = Task(
        bundle=runtime.bundle.path,
        device=str(runtime.device),
        precision=runtime.precision,
        engine=runtime.engine,
        settings=settings,
        batch_size=batch_size,
    )
    return run_apart(task, paths, jobs)


def _run_here(
    runtime: Runtime, path: Path, settings: BagSettings, batch_size: int
) -> BagRun | str:
    with messages_bar(path.name) as progress, _one_thread_each() as threads:
        workers = min(MOST_WORKERS, threads) if runtime.device.type == 'cpu' else 1
        return outcome_of(runtime, path, settings, batch_size, progress, workers)


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Let torch use one thread per batch, and say how many it had.

    Two batches at a time on a core each take little more than half as long as on both cores
    one after the other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def _row(run: BagRun, classes: tuple[str, ...]) -> dict[str, object]:
    prediction, truth = scored([run], classes)
    scores = score_of(prediction, truth).as_json() if len(prediction) else {'scenes': 0}
    return {
        'source': run.source,
        **scores,
        'modes': _modes([run.judged]),
        'streams': run.streams,
        'pairs': len(run.judged),
        'disagreement': median_of(run.disagreements),
        'alignment': run.alignment and run.alignment.model_dump(),
        'unscored': int((~run.judged.scored).sum()),
        'clock_jumps': run.clock_jumps,
        'recorded_s': run.seconds,
        'topics': {k: v for k, v in asdict(run.topics).items() if k != 'undecided'},
        'timeline': run.timeline,
        'unread': list(run.unread),
    }


def _modes(judged: Sequence[Judged]) -> dict[Mode, int]:
    counts = Counter(index for one in judged for index in one.modes.tolist())
    return {MODES[index]: counts[index] for index in sorted(counts)}


def _summed(streams: Sequence[Mapping[Stream, StreamCounts]]) -> dict[Stream, StreamCounts]:
    total: dict[Stream, StreamCounts] = {}
    for stream in STREAMS:
        counts = [one[stream] for one in streams]
        total[stream] = {
            'received': sum(one['received'] for one in counts),
            'used': sum(one['used'] for one in counts),
            'pending': sum(one['pending'] for one in counts),
            'dropped': {
                str(cause): sum(one['dropped'][cause] for one in counts) for cause in CAUSES
            },
        }
    return total
