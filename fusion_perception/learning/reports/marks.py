"""Mark where objects are and where they were predicted, in drawings of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fusion_perception.learning.bags.judging import JudgedFrame
from fusion_perception.learning.reports.errors import Floats
from fusion_perception.learning.reports.figures import look_of
from fusion_perception.learning.reports.html import text

# Where a centre lies in a drawing; None where it is out of sight.
Place = Callable[[Floats], tuple[float, float] | None]
# The root of chi-square 5.9915: so many standard deviations hold 95 % of a 2D Gaussian.
ELLIPSE_DEVIATIONS = 2.4477


def key_to_marks(classes: Sequence[str]) -> str:
    """Return what the marks of the views mean."""
    entries = [
        f'{_icon(_marker(n, 9, 9, 5.5, filled=True))}{text(name)}'
        for n, name in enumerate(classes)
    ]
    entries += [
        f'{_icon(_marker(0, 9, 9, 5.5, filled=False, colour="#15181c"))}hollow: the truth',
        f'{_icon(_marker(0, 9, 9, 5.5, filled=True, colour="#15181c"))}filled: the prediction',
    ]
    return '<ul class="key">' + ''.join(f'<li>{entry}</li>' for entry in entries) + '</ul>'


def marked(frame: JudgedFrame, place: Place, width: float) -> str:
    """Return the marks of all objects, each with a pale rim that parts it from what is below."""
    size = width / 65
    parts = []
    for number, (truth, predicted) in enumerate(zip(frame.truth, frame.predicted, strict=True)):
        colour = look_of(number).colour
        there, guess = place(truth), place(predicted)
        if there and guess:
            line = 'M{:.2f} {:.2f}L{:.2f} {:.2f}'.format(*there, *guess)
            for stroke, thick in (('#fff', 0.55), (colour, 0.28)):
                parts.append(
                    f'<path d="{line}" stroke="{stroke}" stroke-width="{size * thick:.2f}"/>'
                )
        if there:
            parts.append(_marker(number, *there, 1.25 * size, filled=False))
        if guess:
            parts.append(_marker(number, *guess, size, filled=True))
    return ''.join(parts)


def _marker(
    number: int, x: float, y: float, size: float, filled: bool, colour: str | None = None
) -> str:
    look = look_of(number)
    colour = colour or look.colour
    points = {
        's': ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        '^': ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
        'v': ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
        'D': ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
        'P': ((-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4),
              (0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)),
    }.get(look.marker)  # fmt: skip
    if points is None:
        shape = f'circle cx="{x:.2f}" cy="{y:.2f}" r="{size:.2f}"'
    else:
        corners = ' '.join(f'{x + size * a:.2f},{y + size * b:.2f}' for a, b in points)
        shape = f'polygon points="{corners}"'
    if filled:
        return f'<{shape} fill="{colour}" stroke="#fff" stroke-width="{size * 0.3:.2f}"/>'
    return (
        f'<{shape} fill="none" stroke="#fff" stroke-width="{size * 0.75:.2f}"/>'
        f'<{shape} fill="none" stroke="{colour}" stroke-width="{size * 0.38:.2f}"/>'
    )


def ellipse(at: tuple[float, float], scale: float, spread: Floats, number: int) -> str:
    """Return the ellipse that holds an object with 95 %, of the covariance (2, 2) in x and y."""
    colour = look_of(number).colour
    variances, directions = np.linalg.eigh(spread.astype(np.float64))
    small, large = (ELLIPSE_DEVIATIONS * scale * np.sqrt(np.maximum(variances, 0))).tolist()
    # Up is negative in a drawing, so angles turn the other way.
    turn = -np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
    return (
        f'<ellipse rx="{large:.1f}" ry="{small:.1f}" fill="{colour}" fill-opacity=".13" '
        f'stroke="{colour}" stroke-width="1.3" '
        f'transform="translate({at[0]:.1f} {at[1]:.1f}) rotate({turn:.1f})"/>'
    )


def _icon(mark: str) -> str:
    return f'<svg width="18" height="18" viewBox="0 0 18 18" aria-hidden="true">{mark}</svg>'
