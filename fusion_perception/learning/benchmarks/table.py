"""Lay measured stages out as a table, with their goals and the last recorded result."""

from __future__ import annotations

from fusion_perception.learning.benchmarks.result import Result, Spread
from fusion_perception.learning.benchmarks.timing import better

# What to reach on a CPU and on a GPU: so many times better than the notebook's way, or where
# nothing is compared so many scenes a second.
GOALS: dict[str, tuple[float, float]] = {
    'loading_first': (3, 3),
    'loading_second': (50, 50),
    'xyza': (5, 20),
    'training': (1.5, 15),
    'training_compiled': (1.5, 15),
    'training_bfloat16': (1.5, 15),
    'time_to_mse': (30, 30),
    'inference': (6, 6),
    'throughput': (3, 10),
    'simulator': (2000, 100_000),
}
# The settings that each stage depends on beside the machine: only results with the same ones are
# compared. Rounds and steps are not among them: they only make the figures surer.
TERMS: dict[str, tuple[str, ...]] = {
    'loading_first': ('scenes',),
    'loading_second': ('scenes',),
    'xyza': ('scenes',),
    'training': ('scenes',),
    'training_compiled': ('scenes',),
    'training_bfloat16': ('scenes',),
    'time_to_mse': ('scenes', 'mse'),
    'inference': ('scenes', 'bundle', 'precision', 'engine'),
    'throughput': ('scenes', 'bundle', 'precision', 'engine'),
    'simulator': (),
}
# A stage below this part of its recorded speed became slower.
TOLERATED = 0.9
TITLES = {
    'loading_first': 'loading the data folder, first time',
    'loading_second': 'loading it again',
    'xyza': 'ranges to XYZA',
    'training': 'training, one epoch',
    'training_compiled': 'training, one epoch, compiled',
    'training_bfloat16': 'training, one epoch, bfloat16',
    'time_to_mse': 'training until the error is small',
    'inference': 'inference, one scene',
    'throughput': 'inference, batches',
    'simulator': 'simulator',
}


def goal_of(stage: str, device: str) -> float:
    """Return what a stage is to reach on a device."""
    return GOALS[stage][device == 'cuda']


def as_markdown(result: Result, before: Result | None = None) -> str:
    """Return the machine in words and the stages as a Markdown table.

    `before` is an earlier result to compare with.
    """
    header = ['stage', 'ours', 'notebook', 'times better', 'goal']
    header += ['before', 'against before'] if before else []
    lines = [
        in_words(result),
        '',
        f'| {" | ".join(header)} |',
        f'| --- |{" ---: |" * (len(header) - 1)}',
    ]
    for row in result.stages:
        unit = 'x' if row.ratio else f' {row.unit}'
        cells = [
            TITLES[row.stage],
            figure(row.ours, row.unit),
            figure(row.notebook, row.unit) if row.notebook else '',
            short(row.ratio) if row.ratio else '',
            f'{row.goal:,g}{unit} {"reached" if row.reached else "missed"}',
        ]
        if before:
            old = before.of(row.stage)
            cells += (
                ['', '']
                if old is None
                else [
                    figure(old.ours, old.unit),
                    f'{better(row.unit, row.ours.median, old.ours.median):.2f}',
                ]
            )
        lines.append(f'| {" | ".join(cells)} |')
    lines += ['', *(f'* {TITLES[row.stage]}: {row.what}.' for row in result.stages)]
    return '\n'.join(lines)


def in_words(result: Result) -> str:
    """Say in two lines where the figures come from and what they are."""
    machine = result.machine
    gpu = f', {machine.gpu} (CUDA {machine.cuda})' if machine.gpu else ''
    names = ', '.join(f'{name} {text}' for name, text in machine.versions.items())
    warning = ' TINY SIZES: these figures mean nothing.' if result.quick else ''
    return (
        f'{machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB{gpu}; on '
        f'{machine.device} with {machine.threads} threads; {names}; commit '
        f'{machine.git_commit or "unknown"}; {result.when}; load {machine.load_before:g} when it '
        f'began.{warning}\nMedians of {result.rounds} rounds, both ways in turn in one process; '
        'in brackets the quartiles.'
    )


def figure(values: Spread, unit: str) -> str:
    """Return a median with its quartiles and unit."""
    return f'{short(values.median)} {unit} ({short(values.p25)} to {short(values.p75)})'


def short(value: float) -> str:
    """Return a number with three digits that count, and none after the point from 100 on."""
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def on_the_same_terms(before: Result, result: Result) -> tuple[Result | None, list[str]]:
    """Return an earlier result without the stages that cannot be compared, and say why of each.

    Left are those that both measured, on the same terms; None where there are none.
    """
    if before.quick != result.quick:
        # The figures of tiny sizes say nothing about those of real ones.
        return None, ['one of them is quick']
    kept, apart = [], []
    for row in before.stages:
        if result.of(row.stage) is None:
            continue
        differ = [
            f'{term} {_told(before, term)}, now {_told(result, term)}'
            for term in TERMS[row.stage]
            if _told(before, term) != _told(result, term)
        ]
        if differ:
            apart.append(f'{TITLES[row.stage]} ({", ".join(differ)})')
        else:
            kept.append(row)
    return before.model_copy(update={'stages': tuple(kept)}) if kept else None, apart


def _told(result: Result, term: str) -> str:
    return str(result.settings.get(term, 'not noted'))


def slower_than(before: Result, result: Result) -> list[str]:
    """List in words the stages that became slower, beyond what the rounds spread.

    Where the notebook's way was measured in both results, ours must have become slower beside it
    too: what others take of a machine slows both.
    """
    found = []
    for row in result.stages:
        old = before.of(row.stage)
        if old is None or not _fell(row.ours, old.ours, row.unit):
            continue
        speed = better(row.unit, row.ours.median, old.ours.median)
        said = f'{TITLES[row.stage]} runs at {speed:.2f} of the recorded speed'
        now, then = row.ratio_by_round, old.ratio_by_round
        if now is not None and then is not None:
            if not _fell(now, then, 'times/s'):  # As a rate, the larger the better.
                continue
            said += f", {short(now.median)} times the notebook's way and not {short(then.median)}"
        found.append(said)
    return found


def notebook_against(before: Result, result: Result) -> str:
    """Say how fast the notebook's way runs beside its record: as the machine does today.

    Empty where no stage of both results has it.
    """
    pairs = [(row, before.of(row.stage)) for row in result.stages]
    speeds = [
        better(row.unit, row.notebook.median, old.notebook.median)
        for row, old in pairs
        if row.notebook is not None and old is not None and old.notebook is not None
    ]
    if not speeds:
        return ''
    span = ' to '.join(dict.fromkeys(f'{speed:.2f}' for speed in (min(speeds), max(speeds))))
    return f"The notebook's way runs at {span} of its recorded speed."


def _fell(now: Spread, then: Spread, unit: str) -> bool:
    """Say whether figures became worse by more than they spread, and than is tolerated."""
    rate = unit.endswith('/s')
    best, worst = (now.p75, then.p25) if rate else (now.p25, then.p75)
    return better(unit, best, worst) < 1 and better(unit, now.median, then.median) < TOLERATED
