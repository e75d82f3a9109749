"""Noise is as strong as its settings say and touches nothing else."""

import math
from dataclasses import replace

import pytest
import torch

from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.noise import NoiseSettings, add_noise
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

COUNT = 20
LIDAR = UniformGrid().lidar()
CLEAN = render(
    sample_scenes(COUNT, SceneSettings(task='cubes'), torch.Generator().manual_seed(0)),
    Rig(),
    LIDAR,
)
HIT = CLEAN.ranges < LIDAR.max_range


def noisy(seed=1, clean=CLEAN, **settings):
    return add_noise(
        clean, NoiseSettings(**settings), torch.Generator().manual_seed(seed), LIDAR.max_range
    )


def test_noise_of_zero_changes_nothing():
    frames = noisy()
    assert torch.equal(frames.ranges, CLEAN.ranges)
    assert torch.equal(frames.images, CLEAN.images)


def test_range_noise_has_the_standard_deviation_asked_for_on_hits_alone():
    frames = noisy(range_noise_m=(0.03, 0.03))
    assert (frames.ranges - CLEAN.ranges)[HIT].std() == pytest.approx(0.03, rel=0.05)
    assert (frames.ranges[~HIT] == LIDAR.max_range).all()
    assert torch.equal(frames.images, CLEAN.images)


def test_a_lost_ray_reads_the_maximum_range():
    frames = noisy(lost_rays=(0.2, 0.2))
    lost = HIT & (frames.ranges == LIDAR.max_range)
    assert lost.sum() / HIT.sum() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(frames.ranges[~lost], CLEAN.ranges[~lost])
    assert (noisy(lost_rays=(1.0, 1.0)).ranges == LIDAR.max_range).all()


@pytest.mark.parametrize('metres', [0.01, LIDAR.max_range - 0.01])
def test_a_noisy_return_stays_before_the_sensor_and_within_its_reach(metres):
    clean = replace(CLEAN, ranges=torch.full_like(CLEAN.ranges, metres))
    ranges = noisy(clean=clean, range_noise_m=(1.0, 1.0)).ranges
    assert ranges.min() > 0 and ranges.max() <= LIDAR.max_range


@pytest.mark.parametrize(
    'settings',
    [
        {'range_noise_m': (0.0, 0.1)},
        {'lost_rays': (0.0, 0.4)},
        {'exposure': (0.5, 1.0)},
        {'camera_noise': (0.0, 8.0)},
        {'blur_px': (0.0, 0.6)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_each_scene_draws_its_own_strength(settings):
    same = CLEAN[torch.zeros(16, dtype=torch.long)]
    frames = noisy(clean=same, **settings)
    moved, painted = (
        (after.float() - before.float()).abs().flatten(1).mean(1)
        for after, before in ((frames.ranges, same.ranges), (frames.images, same.images))
    )
    # Even between nothing and the most, strengths spread by 0.58 of their mean.
    assert (moved + painted).std() > 0.3 * (moved + painted).mean()


def test_each_scene_and_each_channel_has_errors_of_its_own():
    grey = torch.full_like(CLEAN.images, 128)
    same = replace(CLEAN, images=grey)[torch.zeros(2, dtype=torch.long)]
    frames = noisy(clean=same, range_noise_m=(0.1, 0.1), camera_noise=(9.0, 9.0))
    of_beams = (frames.ranges - same.ranges)[:, HIT[0]]
    assert torch.corrcoef(of_beams)[0, 1].abs() < 0.3
    of_pixels = frames.images[..., :3].float().flatten(1, 2).mT.flatten(0, 1)
    assert (torch.corrcoef(of_pixels) - torch.eye(6)).abs().max() < 0.1


def test_exposure_scales_the_image_and_keeps_alpha():
    frames = noisy(exposure=(0.5, 0.5))
    expected = (CLEAN.images[..., :3].float() / 2).round()
    assert torch.equal(frames.images[..., :3].float(), expected)
    assert (frames.images[..., 3] == 255).all()


def test_camera_noise_has_the_standard_deviation_asked_for():
    frames = noisy(camera_noise=(5.0, 5.0))
    middling = (CLEAN.images[..., :3] > 60) & (CLEAN.images[..., :3] < 190)
    error = frames.images[..., :3].float() - CLEAN.images[..., :3].float()
    assert error[middling].std() == pytest.approx(5.0, rel=0.05)
    assert error[middling].mean().abs() < 0.2
    assert (frames.images[..., 3] == 255).all()


def test_blur_spreads_light_and_loses_none():
    frames = noisy(blur_px=(0.6, 0.6))
    before = CLEAN.images[..., :3].float().sum(dim=(1, 2))
    after = frames.images[..., :3].float().sum(dim=(1, 2))
    assert after == pytest.approx(before, rel=0.01, abs=50)
    lit_before, lit_after = (
        (images[..., :3] > 0).sum() for images in (CLEAN.images, frames.images)
    )
    assert lit_after > lit_before


def test_blur_spreads_a_point_alike_in_all_directions_by_its_variance():
    images = torch.zeros_like(CLEAN.images)
    images[:, 20, 30, :3] = 200
    spread = noisy(clean=replace(CLEAN, images=images), blur_px=(0.5, 0.5)).images[..., 0]
    # Along each axis the taps are an eighth, three quarters, an eighth.
    taps = torch.tensor([0.125, 0.75, 0.125])
    expected = (200 * taps[:, None] * taps).round().to(torch.uint8)
    assert (spread[:, 19:22, 29:32] == expected).all()
    assert spread.sum() == COUNT * expected.sum()


def test_blur_leaves_an_even_image_as_bright_up_to_its_border():
    even = replace(CLEAN, images=torch.full_like(CLEAN.images, 90))
    assert torch.equal(noisy(clean=even, blur_px=(0.6, 0.6)).images, even.images)


def test_the_same_seed_draws_the_same_noise():
    settings = NoiseSettings.robust().model_dump()
    first, second, other = (noisy(seed, **settings) for seed in (1, 1, 2))
    assert torch.equal(first.ranges, second.ranges)
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.ranges, other.ranges)


def test_distances_and_centres_stay_the_truth():
    frames = noisy(**NoiseSettings.robust().model_dump())
    assert torch.equal(frames.distances, CLEAN.distances)
    assert torch.equal(frames.centers, CLEAN.centers)


def test_what_robust_training_sees_is_imperfect_in_every_way():
    robust, perfect = NoiseSettings.robust().model_dump(), NoiseSettings().model_dump()
    assert [name for name in robust if robust[name] == perfect[name]] == []


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'lost_rays': [0, 1.5]}, 'lost_rays.1 = 1.5'),
        ({'range_noise_m': [-0.1, 0.1]}, 'range_noise_m.0 = -0.1'),
        ({'range_noise_m': [0.2, 0.1]}, 'swap them'),
        ({'range_noise_m': [0.1, math.inf]}, 'finite'),
        ({'dropout': 0.1}, "NoiseSettings has no 'dropout'"),
    ],
)
def test_a_wrong_setting_is_named(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        NoiseSettings.read(values)
