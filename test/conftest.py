"""Give every test, and each process it starts, a ROS domain of its own and few threads."""

import contextlib
import os
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest

from fusion_perception.ros.domain import Domain

# Nothing of this run is heard by other runs or robots, and nothing of theirs here. Set before any
# test imports rclpy; child processes inherit it. The domain is ours as long as the object lives.
DOMAIN = Domain()
os.environ['ROS_DOMAIN_ID'] = str(DOMAIN.number)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
# Without it a message takes a wrong type in silence: Point(x=1) becomes 5e-324.
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'
# Tiny tensors gain nothing from more threads, and wait for each other on a busy machine, which
# pytest-xdist makes of it: its workers take a core each, and inherit what their parent set here.
os.environ.setdefault('OMP_NUM_THREADS', '2')
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ['OMP_NUM_THREADS'] = '1'
# Without a GPU, Triton's interpreter computes its kernels; it is chosen when Triton is imported.
if not Path('/dev/nvidiactl').exists():
    os.environ.setdefault('TRITON_INTERPRET', '1')
# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    'unhurried',
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile('unhurried')
# A shell starts background jobs, and some CI its jobs, with Ctrl-C ignored; children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='module')
def one_thread():
    """Compute with one thread: two that wait for each other over tiny tensors only cost time."""
    import torch  # Not above: it reads the variables set there when it is imported.

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def private_cache(tmp_path, monkeypatch):
    """Keep graphs that no folder beside a bundle takes where the test alone sees them."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def _data_folder(factory, name, **settings):
    from fusion_perception.learning.simulate import SimulateSettings, simulate

    out = factory.mktemp('data') / name
    simulate(SimulateSettings(out=out, **settings))
    return out


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Write a data folder of a dozen scenes, which no test changes."""
    return _data_folder(tmp_path_factory, 'scenes', count=12)


@pytest.fixture(scope='module')
def forty_scenes(tmp_path_factory):
    """Write a data folder to train on, which no test changes."""
    return _data_folder(tmp_path_factory, 'scenes', count=40)


@pytest.fixture(scope='module')
def simulated(tmp_path_factory):
    """Write a data folder of eight scenes, which no test changes."""
    return _data_folder(tmp_path_factory, 'shapes', count=8, seed=3)


@pytest.fixture
def folder(simulated, tmp_path):
    """Return a copy of the eight scenes to break."""
    return Path(shutil.copytree(simulated, tmp_path / 'shapes'))


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    """Save a small bundle, which no test changes, and return its path."""
    from small_bundles import small_bundle

    return small_bundle(tmp_path_factory.mktemp('bundle'))


@pytest.fixture(scope='module')
def runtime(bundle):
    """Return what runs the small bundle on the CPU."""
    from fusion_perception.models.bundle import load_bundle
    from fusion_perception.runtime import Runtime

    return Runtime(load_bundle(bundle), 'cpu')


@pytest.fixture
def begun(runtime):
    """Return what begins a pipeline that is fed by hand, which ends with the test."""
    from ways import Way

    with contextlib.ExitStack() as ends:

        def begin(runtime=runtime, **values):
            way = Way(runtime, **values)
            way.pipeline.open()
            ends.callback(way.pipeline.close)
            return way

        yield begin


@pytest.fixture
def bench(forty_scenes, tmp_path):
    """Return where the stages of a quick benchmark on the CPU work."""
    import torch

    from fusion_perception.learning.benchmarks.settings import Bench, BenchmarkSettings

    settings = BenchmarkSettings(out=tmp_path, quick=True, device='cpu')
    return Bench(settings, forty_scenes, 40, torch.device('cpu'), tmp_path)


@pytest.fixture
def settings(forty_scenes, tmp_path):
    """Return what gives the settings of a training that takes a moment, by the name of its run."""
    from training_runs import tiny_recipe

    return lambda run, **changes: tiny_recipe(forty_scenes, tmp_path / run, **changes)
