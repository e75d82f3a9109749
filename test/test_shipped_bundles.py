"""The bundles that ship keep their promises on scenes that no training saw."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion_perception.models.bundle import SHIPPED, load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.assembly import observe
from fusion_perception.simulation.noise import NoiseSettings, add_noise
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

TASKS = ('shapes', 'cubes')
# Median and mean error on the scenes below, metres. A quarter more than the bundles have: room for
# another training, and none for one that is worse by half.
MOST_M = {'shapes': (0.044, 0.115), 'cubes': (0.048, 0.078)}
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture(scope='module', params=TASKS)
def bundle(request):
    return load_bundle(request.param)


@pytest.fixture(scope='module')
def unseen(bundle):
    """Return an observation of 192 scenes in the original look, and their centres."""
    frames = render(scenes_for(bundle, 192, seed=71), bundle.rig, bundle.lidar)
    return observed(bundle, frames), frames.centers


def scenes_for(bundle, count, seed, **look):
    settings = SceneSettings(task=bundle.path.stem, **look)
    return sample_scenes(count, settings, torch.Generator().manual_seed(seed))


def observed(bundle, frames):
    return observe(frames.images, frames.ranges, bundle.rig.camera, bundle.lidar)


@torch.inference_mode()
def errors_of(bundle, observation, truth):
    return (bundle.model(observation).centers - truth).norm(dim=-1)


def test_a_bundle_takes_at_most_four_megabytes_and_a_million_and_a_half_parameters(bundle):
    assert (SHIPPED / bundle.path.name).stat().st_size <= 4_000_000
    assert sum(p.numel() for p in bundle.model.parameters()) <= 1_500_000


def test_a_bundle_says_how_it_was_made(bundle):
    failing_sensors, from_nothing = bundle.trainings
    for made in (failing_sensors, from_nothing):
        assert {'seed', 'git_commit', 'seconds', 'metrics', 'settings'} <= set(made)
    assert 'start_from' in failing_sensors['settings']
    assert from_nothing['settings'].get('start_from') is None


def test_centres_of_unseen_scenes_are_found_to_a_few_centimetres(bundle, unseen):
    errors, (median, mean) = errors_of(bundle, *unseen), MOST_M[bundle.path.stem]
    assert errors.median() < median
    assert errors.mean() < mean


def test_noise_and_lost_rays_cost_little(bundle):
    # Of 64 scenes the medians stray by several millimetres.
    frames = render(scenes_for(bundle, 256, seed=72), bundle.rig, bundle.lidar)
    noise = NoiseSettings(range_noise_m=(0.02, 0.02), lost_rays=(0.05, 0.05))
    noisy = add_noise(frames, noise, torch.Generator().manual_seed(0), bundle.lidar.max_range)
    clean, hard = (
        errors_of(bundle, observed(bundle, each), frames.centers) for each in (frames, noisy)
    )
    # In metres: without noise a bundle may become closer by more than with it.
    assert hard.median() < clean.median() + 0.015
    assert hard.median() < 0.048


@pytest.mark.parametrize('silent', [None, 'camera', 'lidar'])
@pytest.mark.parametrize('shift', [(2.0, 0.0, 0.0), (-2.0, 0.0, 2.0)])
def test_where_in_the_image_the_scene_lies_does_not_matter(bundle, silent, shift):
    scenes = scenes_for(bundle, 64, seed=73, reach_m=2.5)
    medians = []
    for by in ((0.0, 0.0, 0.0), shift):
        moved = replace(scenes, centers=scenes.centers + torch.tensor(by))
        frames = render(moved, bundle.rig, bundle.lidar)
        seen = observed(bundle, frames)
        seen = seen if silent is None else seen.without(silent)
        medians.append(float(errors_of(bundle, seen, frames.centers).median()))
    assert medians[1] == pytest.approx(medians[0], rel=0.25)


@pytest.mark.parametrize('silent', [None, 'camera', 'lidar'])
def test_errors_are_as_large_as_the_covariance_says(bundle, unseen, silent):
    seen, truth = unseen
    seen = seen if silent is None else seen.without(silent)
    with torch.inference_mode():
        estimate = bundle.model(seen)
    error = (estimate.centers - truth).unsqueeze(-1)
    squared = (error.mT @ torch.linalg.solve(estimate.covariance, error)).flatten()
    # Chi-squared with three degrees of freedom: the mean is 3, and 95 % lie below 7.815.
    assert 2.2 < float(squared.mean()) < 4.0
    # A cube of the three, nobody knows which: such errors have an end, as Gaussian ones do not.
    unknown = bundle.path.stem == 'cubes' and silent == 'camera'
    assert 0.91 < float((squared < 7.815).float().mean()) < (1.0 if unknown else 0.99)


@pytest.mark.parametrize(
    ('image', 'ranges'),
    [
        (0, 50.0),
        (0, math.nan),
        (0, math.inf),
        (255, 0.0),
        (255, -1.0),
    ],
)
def test_with_nothing_to_see_it_says_so_instead_of_guessing(bundle, image, ranges):
    camera = bundle.rig.camera
    prediction = Runtime(bundle, 'cpu').predict(
        Runtime(bundle, 'cpu').observe(
            np.full((camera.height, camera.width, 4), image, np.uint8),
            np.full(bundle.lidar.shape, ranges, np.float32),
        )
    )
    assert prediction.centers.isfinite().all()
    spread = prediction.covariance.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
    # Centres are spread over ten metres: a sigma of less than one would be a guess.
    assert (spread > 1.0).all()
