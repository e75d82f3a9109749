"""Measure each stage but training, ours and the notebook's way in turn."""

from __future__ import annotations

from functools import partial

import torch

from fusion_perception.learning import notebook_baseline as notebook
from fusion_perception.learning.benchmarks.floor import cost_of, rates_of
from fusion_perception.learning.benchmarks.floor import in_words as floor_in_words
from fusion_perception.learning.benchmarks.settings import Bench
from fusion_perception.learning.benchmarks.timing import (
    Measured,
    Work,
    alternate,
    median,
    seconds_of,
)
from fusion_perception.learning.dataset import PACKED, read_folder
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes


def loading(bench: Bench) -> list[Measured]:
    """Load the data folder: the first time, and again with the packed file it left.

    The notebook's way has no second time of its own: it reads all files whenever it starts.
    """
    device, packed = bench.device, bench.folder / PACKED

    def first() -> float:
        packed.unlink(missing_ok=True)
        return again()

    def again() -> float:
        return seconds_of(lambda: read_folder(bench.folder, device), device)

    def every_value() -> float:
        def read() -> object:
            scenes = read_folder(bench.folder, device)
            return [tensor.sum() for tensor in (scenes.images, scenes.ranges, scenes.centers)]

        return seconds_of(read, device)

    def theirs() -> float:
        return seconds_of(
            lambda: notebook.NotebookData(bench.folder, device, 0, bench.scenes), device
        )

    figures = alternate(
        bench.settings.rounds,
        {'notebook': theirs, 'first': first, 'again': again, 'every value': every_value},
    )
    scenes = f'{bench.scenes:,} scenes, files in the page cache'
    return [
        Measured('loading_first', 's', figures['first'], figures['notebook'], scenes),
        Measured(
            'loading_second',
            's',
            figures['again'],
            figures['notebook'],
            f'{scenes}; ours maps the packed file, whose pages are read when they are used',
            {'seconds_with_every_value_read': figures['every value']},
        ),
    ]


def xyza(bench: Bench) -> list[Measured]:
    """Turn 32 range images into XYZA."""
    scenes = read_folder(bench.folder, bench.device)
    ranges = scenes.ranges[:32].contiguous()
    azimuth, zenith = scenes.lidar.azimuth, scenes.lidar.zenith
    calls = bench.size(50, 2)

    def ours() -> object:
        return scenes.lidar.xyza(ranges)

    def theirs() -> object:
        return torch.stack([notebook.xyza(one, azimuth, zenith) for one in ranges])

    figures = _timed(bench, calls, ours, theirs)
    return [Measured('xyza', 'ms', *figures, f'batch of {len(ranges)}, mean of {calls} calls')]


def inference(bench: Bench) -> list[Measured]:
    """Predict one scene after another, from NumPy arrays to centres in host memory."""
    scenes = read_folder(bench.folder)
    runtime = _runtime(bench)
    net, azimuth, zenith = _late_fusion(bench)
    count = min(len(scenes), bench.size(32, 2))
    images, ranges = scenes.images[:count].numpy(), scenes.ranges[:count].numpy()

    def ours() -> object:
        for image, one in zip(images, ranges, strict=True):
            runtime.predict_frame(image, one)
        return None

    def theirs() -> object:
        for image, one in zip(images, ranges, strict=True):
            notebook.predict(net, image, one, azimuth, zenith)
        return None

    mine, other = _timed(bench, 1, ours, theirs)
    each = tuple(total / count for total in mine)
    cost = cost_of(runtime.bundle)
    floor, numbers = floor_in_words(cost, rates_of(bench, cost), median(each))
    return [
        Measured(
            'inference',
            'ms',
            each,
            tuple(total / count for total in other),
            f'bundle {bench.settings.bundle} by {runtime.engine} beside late fusion as a notebook '
            f'calls it (autograd on); one scene, mean of {count}; {floor}',
            {**_engine(runtime), **numbers},
        )
    ]


def throughput(bench: Bench) -> list[Measured]:
    """Predict batches of 64, from NumPy arrays to centres in host memory."""
    scenes = read_folder(bench.folder)
    runtime = _runtime(bench)
    net, azimuth, zenith = _late_fusion(bench)
    count = min(len(scenes), bench.size(64, 4))
    images, ranges = scenes.images[:count].numpy(), scenes.ranges[:count].numpy()
    calls = bench.size(4, 1)

    def ours() -> object:
        return runtime.predict_frames(images, ranges)

    def theirs() -> object:
        return notebook.predict_many(net, images, ranges, azimuth, zenith)

    mine, other = _timed(bench, calls, ours, theirs)
    return [
        Measured(
            'throughput',
            'scenes/s',
            tuple(1000 * count / ms for ms in mine),
            tuple(1000 * count / ms for ms in other),
            f'bundle {bench.settings.bundle} by {runtime.engine} beside late fusion, batch of '
            f'{count}',
            _engine(runtime),
        )
    ]


def simulator(bench: Bench) -> list[Measured]:
    """Draw and render scenes: camera image and ranges, in memory. The notebook has none."""
    count = bench.size(1024 if bench.device.type == 'cpu' else 65536, 8)
    rig, lidar = Rig(), UniformGrid().lidar()
    generator = torch.Generator(bench.device).manual_seed(0)

    def work() -> object:
        scenes = sample_scenes(count, SceneSettings(), generator, bench.device, rig=rig)
        return render(scenes, rig, lidar)

    figures = alternate(
        bench.settings.rounds, {'ours': lambda: count / seconds_of(work, bench.device)}
    )
    return [
        Measured('simulator', 'scenes/s', figures['ours'], (), f'{count:,} scenes of shapes drawn')
    ]


def _timed(
    bench: Bench, calls: int, ours: Work, theirs: Work
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the milliseconds of one call, ours and the notebook's way, in each round.

    A first call does not count: threads are asleep and caches hold other data.
    """

    def milliseconds(work: Work) -> float:
        work()
        return 1000 * seconds_of(work, bench.device, calls)

    figures = alternate(
        bench.settings.rounds,
        {'ours': partial(milliseconds, ours), 'notebook': partial(milliseconds, theirs)},
    )
    return figures['ours'], figures['notebook']


def _runtime(bench: Bench) -> Runtime:
    settings = bench.settings
    bundle = load_bundle(settings.bundle)
    runtime = Runtime(bundle, settings.device, settings.precision, settings.engine)
    runtime.warm_up()
    return runtime


def _late_fusion(bench: Bench) -> tuple[notebook.LateNet, torch.Tensor, torch.Tensor]:
    """Return the notebook's network (its speed is that of any weights) and the tables."""
    net = notebook.LateNet(notebook.Net(4), notebook.Net(4)).to(bench.device)
    lidar = read_folder(bench.folder).lidar
    return net, lidar.azimuth.to(bench.device), lidar.zenith.to(bench.device)


def _engine(runtime: Runtime) -> dict[str, object]:
    return {'engine': runtime.engine, 'precision': runtime.precision}
