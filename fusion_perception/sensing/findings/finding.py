"""Say what is wrong in the same few parts everywhere: symptom, cause and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal['OK', 'WARN', 'ERROR']
# Now and then: of many times this share, and some even of a few.
_FEW, _SELDOM = 2, 0.01


@dataclass(frozen=True)
class Finding:
    """What was seen, why it is so, and what to do: half a sentence, half a sentence, a sentence.

    An OK finding has a symptom alone.
    """

    level: Level
    symptom: str
    cause: str = ''
    remedy: str = ''

    @property
    def sentence(self) -> str:
        """Return symptom and cause as one sentence."""
        return f'{self.symptom}: {self.cause}.' if self.cause else f'{self.symptom}.'

    def __str__(self) -> str:
        return f'{self.sentence} {self.remedy}'.rstrip()


def worst(findings: Sequence[Finding]) -> Level:
    """Return the highest level, OK for none."""
    levels: tuple[Level, ...] = ('OK', 'WARN', 'ERROR')
    return max((f.level for f in findings), key=levels.index, default='OK')


def is_often(count: int, total: int) -> bool:
    """Say whether something happened more often, of so many times, than now and then."""
    return count > max(_FEW, _SELDOM * total)


def of_fault(where: str, fault: Exception | str, level: Level = 'ERROR') -> Finding:
    """Part an error's words into what is wrong, with where that is, and the next step."""
    first, _, rest = str(fault).partition('. ')
    symptom = first if where in first else f'{where}: {first}'
    return Finding(level, symptom.rstrip('.'), '', rest)


def parted(fault: str, cause: str, remedy: str) -> tuple[str, str]:
    """Part an error's words into its fault, as half a sentence, and the next step."""
    first, _, rest = fault.partition('. ')
    if not first:
        return cause, remedy
    if not first[1:2].isupper():  # Else it is an abbreviation.
        first = first[:1].lower() + first[1:]
    return first.rstrip('.'), rest or remedy
