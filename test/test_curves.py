"""Loss curves show how models differ, whatever the first epoch was like."""

import pytest
from matplotlib.figure import Figure

from fusion_perception.learning.run.curves import _draw_losses, comparison_plot, losses_plot

CALM = ([6.0, 4.0, 3.0], [5.0, 4.0, 3.5])
WILD = ([200.0, 2.0, 1.0], [2.0, 1.0, 0.5])


def drawn(**curves):
    axes = Figure().add_subplot()
    _draw_losses(axes, curves)
    return axes


def test_a_wild_first_epoch_is_cut_off_and_named():
    axes = drawn(calm=CALM, wild=WILD)
    bottom, top = axes.get_ylim()
    assert -1.0 < bottom < 0.5
    assert 5.0 < top < 10
    assert '200' in axes.get_ylabel()


@pytest.mark.parametrize('curve', [CALM, ([200.0], [150.0]), ([3.0, -1.0], [1.0, -2.0])])
def test_all_of_other_curves_is_shown(curve):
    axes = drawn(model=curve)
    assert axes.get_ylim()[1] > max(max(losses) for losses in curve)
    assert axes.get_ylabel() == 'loss'


def test_curves_of_one_epoch_and_of_many_become_pictures(tmp_path):
    losses_plot({'one': ([1.0], [2.0])}, tmp_path / 'losses.png')
    comparison_plot({'a': CALM, 'b': WILD}, {'a': [1.0, 0.5, 0.4], 'b': [0.3]}, tmp_path / 'c.png')
    for name in ('losses.png', 'c.png'):
        assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')


def test_each_curve_has_its_epochs_counted_from_one_and_a_colour_of_its_own():
    lines = drawn(a=CALM, b=([3.0], [2.0])).get_lines()
    told = [(line.get_label(), [*line.get_xdata()], [*line.get_ydata()]) for line in lines]
    epochs = [*range(1, len(CALM[0]) + 1)]
    assert told == [
        ('a, training', epochs, CALM[0]),
        ('a, validation', epochs, CALM[1]),
        ('b, training', [1], [3.0]),
        ('b, validation', [1], [2.0]),
    ]
    a, same, b, _ = (line.get_color() for line in lines)
    assert a == same != b


def test_losses_below_zero_are_shown_beside_a_wild_first_epoch():
    bottom, top = drawn(wild=([100.0, 1.0, -6.0], [90.0, 2.0, -4.0])).get_ylim()
    assert bottom < -6.0 and 2.0 < top < 90.0
