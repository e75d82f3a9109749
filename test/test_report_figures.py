"""Each figure of a report shows what its labels say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from small_runs import run

from fusion_perception.learning.evidence.evidence import Evidence
from fusion_perception.learning.reports.errors import Axis, Errors, errors_of
from fusion_perception.learning.reports.figures import (
    MODE_NAMES,
    error_against_range,
    error_distribution,
    error_over_time,
    latency_figure,
    look_of,
    reliability,
)
from fusion_perception.learning.reports.timeline import drops_over_time, modes_over_time, rates
from fusion_perception.sensing.observation import Prediction

SECONDS = Axis('time [s]', (0.0,), 100.0)


def errors(count=1000, modes=('fusion',), inside=None):
    """Return errors of two objects: the near one is well placed, the far one badly."""
    random = np.random.default_rng(0)
    away = random.uniform((0.05, 1.0), (0.2, 4.0), (count, 2))
    reach = random.uniform((5.0, 30.0), (10.0, 40.0), (count, 2))
    at = np.linspace(0, 100, count)
    return Errors(('near', 'far'), away, reach, at, (modes * count)[:count], inside)


def areas(axes):
    """Return by its label from where to where each area or outline reaches in the first bin."""
    return {
        patch.get_label(): (np.ravel(patch.get_data().baseline)[0], patch.get_data().values[0])
        for patch in axes.patches
    }


def test_times_of_a_recording_count_from_the_end_of_the_one_before():
    runs = [run(20.0, (1.0, 'modes.fusion')), run(80.0, (3.0, 'modes.fusion'))]
    centers = torch.ones(2, 1, 3)
    prediction = Prediction(centers, None, ('ball',), ('fusion', 'fusion'))
    evidence = Evidence('bags', prediction, centers, {}, {}, {}, 2, (), runs=runs)
    axis = Axis.of(evidence)
    assert (axis.begins, axis.ends(), axis.end) == ((0.0, 20.0), (20.0, 100.0), 100.0)
    assert errors_of(evidence, axis).at.tolist() == [1.0, 23.0]
    assert axis.label == 'time (recordings one after another) [s]'
    assert Axis.of(replace(evidence, runs=runs[1:])).label == 'time [s]'


def test_a_recording_of_a_single_moment_takes_a_second():
    prediction = Prediction(torch.ones(0, 1, 3), None, ('ball',), ())
    runs = [run(0.0), run(0.0)]
    evidence = Evidence('bags', prediction, prediction.centers, {}, {}, {}, 0, (), runs=runs)
    assert Axis.of(evidence).ends() == (1.0, 2.0)


@pytest.mark.parametrize('count', [20, 1000])
def test_errors_over_time_are_those_of_the_object_named_above(count):
    measured = errors(count)
    panels = error_over_time(measured, SECONDS).axes
    assert [axes.get_title(loc='center') or axes.get_title(loc='left') for axes in panels] == [
        'near',
        'far',
    ]
    for axes, away in zip(panels, measured.away.T, strict=True):
        drawn = np.median(axes.lines[-1].get_ydata())
        assert drawn == pytest.approx(np.median(away), rel=0.1)
    assert panels[0].get_ylim()[0] < measured.away.min() < measured.away.max()
    assert panels[0].get_ylim()[1] > measured.away.max()


def test_recordings_are_parted_and_numbered_in_their_middle():
    axis = Axis('time [s]', (0.0, 20.0), 100.0)
    first, second = error_over_time(errors(), axis).axes
    numbers = {text.get_text(): text.xy[0] for text in first.texts}
    assert numbers == {'1.': 10.0, '2.': 60.0}
    for axes in (first, second):
        assert [20.0, 20.0] in [list(line.get_xdata()) for line in axes.lines]


def test_how_often_errors_occur_adds_up_to_all_centres():
    measured = errors()
    often, _ = error_distribution(measured).axes
    shares = {patch.get_label(): patch.get_data() for patch in often.patches}
    assert list(shares) == ['all', 'near', 'far']
    each = (shares['near'].values + shares['far'].values) / 2
    assert np.allclose(shares['all'].values, each)
    for label, away in zip(measured.classes, measured.away.T, strict=True):
        values, edges, _ = shares[label]
        assert values.sum() == pytest.approx(100)
        middle = edges[np.searchsorted(np.cumsum(values), 50)]
        assert middle == pytest.approx(np.median(away), rel=0.3)


@pytest.mark.parametrize('most', [0.01, 5.0])
def test_the_names_of_the_objects_leave_the_most_frequent_errors_to_be_seen(most):
    away = np.geomspace(0.01, 5.0, 1000)[:, None].repeat(2, axis=1)
    away[np.arange(1000) % 10 > 0] = most
    figure = error_distribution(replace(errors(), away=away))
    often = figure.axes[0]
    FigureCanvasAgg(figure).draw()
    names = often.get_legend().get_window_extent().transformed(often.transData.inverted())
    assert not names.x0 / 1.1 < most < names.x1 * 1.1


def test_the_radii_of_the_hit_rates_stand_where_they_are_named():
    _, nearer = error_distribution(errors()).axes
    marked = {f'{line.get_xdata()[0]:g} m' for line in nearer.lines[2:]}
    assert marked == {text.get_text() for text in nearer.texts} == {'0.1 m', '0.25 m', '0.5 m'}


def test_errors_against_range_are_those_of_the_object_named_above():
    measured = errors()
    panels = error_against_range(measured).axes
    for number, axes in enumerate(panels):
        assert measured.classes[number] in (axes.get_title(), axes.get_title(loc='left'))
        reach, away = axes.lines[0].get_data()
        assert set(reach) <= set(measured.reach[:, number])
        assert set(away) <= set(measured.away[:, number])
        low, middle, high = (patch.get_data().values for patch in axes.patches)
        assert (low < middle).all() and (middle < high).all()


def test_what_lies_inside_is_held_against_what_was_promised_by_sensors_and_by_object():
    # By turns of both sensors and of the camera, whose promises are never kept. What both promise
    # of the near object always is, and of the far one as often as they say.
    inside = np.ones((1000, 2))
    inside[::2, 0] = 0.0
    inside[::2, 1] = np.linspace(0, 1, 500)
    measured = errors(1000, ('fusion', 'camera_only'), inside)
    by_sensors, by_object = reliability(measured, inside).axes
    titles = [axes.get_title() or axes.get_title(loc='left') for axes in (by_sensors, by_object)]
    assert titles == ['By the sensors that saw', 'By object']

    def observed(axes, label, promised):
        (line,) = (line for line in axes.lines if line.get_label().startswith(label))
        return float(np.interp(promised, *line.get_data()))

    assert observed(by_sensors, 'camera and LiDAR (1,000)', 40) == pytest.approx(70, abs=1)
    assert observed(by_sensors, 'camera alone (1,000)', 90) == 0
    assert observed(by_object, 'near (1,000)', 90) == pytest.approx(50, abs=1)
    assert observed(by_object, 'far (1,000)', 40) == pytest.approx(20, abs=1)
    # What lies on an ellipsoid lies inside, as it does in the scores.
    assert observed(by_object, 'near (1,000)', 0) == pytest.approx(50)
    assert observed(by_sensors, 'camera alone (1,000)', 100) == 100


def test_a_latency_is_named_by_the_share_of_frames_that_take_no_longer():
    values = np.arange(1, 1001) / 10
    (axes,) = latency_figure(values.tolist()).axes
    named = {line.get_label(): float(line.get_xdata()[0]) for line in axes.lines}
    assert list(named) == ['50 %: 50.0 ms', '95 %: 95.0 ms', '99 %: 99.0 ms']
    assert list(named.values()) == pytest.approx([50, 95, 99], abs=0.2)
    assert sum(bar.get_height() for bar in axes.patches) == 1000


def test_predictions_a_second_are_stacked_by_the_sensors_that_served():
    counted = [(0.5, 'modes.fusion')] * 6 + [(0.5, 'modes.lidar_only')] * 2
    (axes,) = modes_over_time([run(10.0, *counted)], Axis('time [s]', (0.0,), 10.0)).axes
    both, lidar = MODE_NAMES['fusion'], MODE_NAMES['lidar_only']
    assert areas(axes) == pytest.approx({both: (0, 6), lidar: (6, 8)})
    assert axes.get_ylim()[1] >= 8


def test_losses_of_each_stream_are_stacked_by_cause_below_what_came():
    recording = run(10.0, camera=40, lidar=8)
    camera, lidar = drops_over_time([recording], Axis('time [s]', (0.0,), 10.0)).axes
    for axes, name, came in ((camera, 'camera', 40), (lidar, 'LiDAR', 8)):
        assert name in (axes.get_title(), axes.get_title(loc='left'))
        drawn = areas(axes)
        assert drawn['received'][1] == pytest.approx(came)
        causes = sorted(drawn[name] for name in ('no partner', 'stale', 'bad shape'))
        share = came / 4
        np.testing.assert_allclose(causes, [(n * share, (n + 1) * share) for n in range(3)])


def test_recordings_of_one_rate_are_drawn_at_that_rate_however_many_seconds_a_bin_has():
    long = run(1000.0, *[(second, 'modes.fusion') for second in range(1000)])
    (axes,) = modes_over_time([long], Axis('time [s]', (0.0,), 1000.0)).axes
    (values, _, _) = axes.patches[0].get_data()
    assert len(values) <= 240
    assert np.allclose(values[:-1], 1.0)


def test_what_came_in_the_last_second_lies_before_the_end_of_its_recording():
    runs = [run(2.5, (0.5, 'modes.fusion'), (2.2, 'modes.fusion'))] * 2
    edges, found = rates(runs, Axis('time [s]', (0.0, 2.5), 5.0))
    assert found['modes.fusion'] * np.diff(edges) == pytest.approx([1, 0, 1.5, 0.5, 1])


def test_no_two_of_many_objects_look_the_same():
    looks = [look_of(number) for number in range(36)]
    assert len(set(looks)) == len(looks)
