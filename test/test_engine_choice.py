"""An engine may predict when it agrees with eager torch; of those that do, the quickest does."""

import time
from dataclasses import replace

import pytest
import torch
from small_bundles import GRID, small_bundle

from fusion_perception.engines import choice
from fusion_perception.engines.base import TorchEngine
from fusion_perception.engines.choice import aged_m, choose_engine, time_ms, try_engine
from fusion_perception.engines.onnx_graph import keep
from fusion_perception.models.bundle import load_bundle
from fusion_perception.models.examples import Examples, made_up_examples
from fusion_perception.sensing.rig import Rig

CPU = torch.device('cpu')

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def bundle(tmp_path):
    return load_bundle(small_bundle(tmp_path, examples=made_up_examples(Rig().camera, GRID)))


class Slow(TorchEngine):
    """Compute everything five times."""

    def estimate(self, observation):
        for _ in range(4):
            super().estimate(observation)
        return super().estimate(observation)


class Remembering(TorchEngine):
    """Compute each frame once."""

    def __init__(self, bundle, device):
        super().__init__(bundle, device)
        self.known = {}

    def estimate_frames(self, images, ranges, camera=None):
        frame = tuple(part if part is None else part.tobytes() for part in (images, ranges))
        if frame not in self.known:
            self.known[frame] = super().estimate_frames(images, ranges, camera)
        return self.known[frame]


@pytest.mark.parametrize(('other', 'taken'), [(Slow, TorchEngine), (Remembering, Remembering)])
def test_of_engines_that_agree_the_quickest_is_taken(bundle, monkeypatch, other, taken):
    monkeypatch.setitem(choice.ENGINES, 'onnxruntime', other)
    assert type(choose_engine('auto', bundle, CPU, 'float32')) is taken


def engine_that(alter):
    """Return eager torch of which what it estimates is altered."""

    class Altered(TorchEngine):
        def estimate(self, observation):
            return alter(super().estimate(observation))

    return Altered


def moved(metres):
    """Move the last of the objects alone."""

    def alter(found):
        centers = found.centers.clone()
        centers[:, -1, 1] += metres
        return found._replace(centers=centers)

    return alter


def scaled(factor):
    return lambda found: found._replace(covariance=factor * found.covariance)


@pytest.mark.parametrize(
    ('alter', 'agrees'),
    [
        (moved(0.0005), True),
        (moved(0.002), False),
        (moved(torch.nan), False),
        (scaled(1.03), True),
        (scaled(0.97), True),
        (scaled(1.06), False),
        (scaled(1.1), False),
        (scaled(0.5), False),
        (scaled(torch.nan), False),
        (lambda found: found._replace(covariance=None), False),
    ],
)
def test_an_engine_agrees_to_a_millimetre_and_two_percent_of_a_standard_deviation(
    bundle, monkeypatch, alter, agrees
):
    monkeypatch.setitem(choice.ENGINES, 'onnxruntime', engine_that(alter))
    trial = try_engine('onnxruntime', bundle, TorchEngine(bundle, CPU), timed=False)
    assert ('is refused' in trial.fault) is not agrees


def test_an_engine_that_cannot_be_had_is_told_from_one_that_disagrees(bundle, monkeypatch):
    reference = TorchEngine(bundle, CPU)
    assert try_engine('cuda_graph', bundle, reference).missing
    monkeypatch.setitem(choice.ENGINES, 'onnxruntime', engine_that(moved(1.0)))
    assert not try_engine('onnxruntime', bundle, reference).missing


def test_where_the_engine_asked_for_agrees_no_other_is_tried(bundle, monkeypatch, caplog):
    monkeypatch.setitem(choice.ENGINES, 'tensorrt', Slow)
    monkeypatch.setitem(choice.ENGINES, 'onnxruntime', engine_that(moved(1.0)))
    assert type(choose_engine('tensorrt', bundle, CPU, 'float32')) is Slow
    assert not caplog.records


def test_where_the_engine_asked_for_is_refused_the_others_of_auto_come_before_torch(
    bundle, monkeypatch
):
    monkeypatch.setitem(choice.ENGINES, 'tensorrt', engine_that(moved(1.0)))
    monkeypatch.setitem(choice.ENGINES, 'onnxruntime', Slow)
    assert type(choose_engine('tensorrt', bundle, CPU, 'float32')) is Slow


@pytest.mark.parametrize('asked', ['auto', 'onnxruntime'])
def test_the_log_has_a_line_of_an_engine_that_is_refused_and_none_of_one_that_is_missing(
    bundle, monkeypatch, caplog, asked
):
    for engine, lines in ((Slow, 0), (engine_that(moved(1.0)), 1)):
        monkeypatch.setitem(choice.ENGINES, 'onnxruntime', engine)
        caplog.clear()
        choose_engine(asked, bundle, CPU, 'float32')
        assert sum(record.levelname == 'WARNING' for record in caplog.records) == lines


def test_what_an_engine_failed_with_is_told_in_one_line_that_ends(bundle, monkeypatch):
    def alter(found):
        raise RuntimeError('no kernel\n\tfor   this.' + ' Sorry.' * 1000)

    monkeypatch.setitem(choice.ENGINES, 'onnxruntime', engine_that(alter))
    trial = try_engine('onnxruntime', bundle, TorchEngine(bundle, CPU))
    assert 'failed here: RuntimeError: no kernel for this. Sorry. Sorry' in trial.fault
    assert len(trial.fault) < 500 and trial.remedy == 'Use engine torch.'


def fail(found):
    raise RuntimeError('no kernel.')


@pytest.mark.parametrize('alter', [fail, moved(1.0)], ids=['failed', 'differs'])
def test_of_an_engine_without_graphs_the_fault_is_said_and_none_is_to_be_removed(
    bundle, monkeypatch, alter
):
    keep(bundle, 'frame', b'graph')
    monkeypatch.setitem(choice.ENGINES, 'cuda_graph', engine_that(alter))
    trial = try_engine('cuda_graph', bundle, TorchEngine(bundle, CPU))
    said = 'RuntimeError: no kernel.' if alter is fail else 'up to 1000.00 mm away from'
    assert said in trial.fault and '..' not in trial.fault
    assert trial.remedy == 'Use engine torch.'


def test_the_time_is_that_of_a_frame_of_both_sensors_in_milliseconds(bundle):
    seen = []

    class Watched(TorchEngine):
        def estimate_frames(self, images, ranges, camera=None):
            seen.append(images is not None and ranges is not None)
            return super().estimate_frames(images, ranges, camera)

    engine, began = Watched(bundle, CPU), time.perf_counter()
    median_ms, whole_ms = time_ms(engine, bundle), 1e3 * (time.perf_counter() - began)
    assert seen and all(seen)
    # More than half of the seven that count took as long as the median.
    assert whole_ms / 900 < median_ms < whole_ms / 4


def test_bfloat16_is_computed_in_bfloat16_and_gives_float32(bundle):
    image, ranges = bundle.examples.images[:1].numpy(), bundle.examples.ranges[:1].numpy()
    whole, reduced = (
        choose_engine('torch', bundle, CPU, precision).estimate_frames(image, ranges)
        for precision in ('float32', 'bfloat16')
    )
    assert not torch.equal(whole.centers, reduced.centers)
    torch.testing.assert_close(reduced.centers, whole.centers, atol=0.2, rtol=0)
    assert reduced.centers.dtype == reduced.covariance.dtype == torch.float32
    assert not reduced.centers.requires_grad


def test_a_bundle_has_aged_as_far_as_the_worst_of_its_examples_says(bundle):
    reference, examples = TorchEngine(bundle, CPU), bundle.examples
    centers = examples.centers.clone()
    centers[0, 0, 0, 0] += 0.5
    moved_one = replace(bundle, examples=replace(examples, centers=centers))
    assert aged_m(reference, moved_one) == pytest.approx(0.5, abs=1e-3)
    centers[0, 0, 0, 0] = torch.nan
    assert aged_m(reference, moved_one) > 1e9
    unjudged = Examples(examples.images, examples.ranges)
    assert aged_m(reference, replace(bundle, examples=unjudged)) is None
