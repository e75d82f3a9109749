"""How sensors of simulated frames fail."""

from dataclasses import replace

import torch

from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig
from fusion_perception.simulation.failures import fail_sensors
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

RIG, LIDAR = Rig(), UniformGrid().lidar()
COUNT = 400
WHOLE = render(
    sample_scenes(COUNT, SceneSettings(), torch.Generator().manual_seed(3), rig=RIG), RIG, LIDAR
)

# A wall that every beam of a small LiDAR meets.
WALL = replace(WHOLE, ranges=torch.full((COUNT, 8, 16), 20.0))


def failed(share, seed=0, frames=WHOLE):
    return fail_sensors(frames, share, torch.Generator().manual_seed(seed), LIDAR.max_range)


def returns(frames):
    return (frames.ranges < LIDAR.max_range).flatten(1).sum(1)


def changed(before, after):
    return (before != after).flatten(1).any(1)


def test_nothing_fails_unless_asked_for():
    assert failed(0.0) is WHOLE


def test_each_sensor_fails_in_about_its_share_of_the_scenes_and_on_its_own():
    frames = failed(0.5)
    camera, lidar = changed(WHOLE.images, frames.images), changed(WHOLE.ranges, frames.ranges)
    # A factor of one changes no image.
    assert 0.3 < lidar.float().mean() < 0.55 and 0.4 < camera.float().mean() < 0.6
    assert 0.1 < (camera & lidar).float().mean() < 0.35
    assert torch.equal(frames.centers, WHOLE.centers)


def test_of_the_three_failures_each_comes_half_of_the_time_so_once_in_eight_none():
    kept = ~changed(WHOLE.ranges, failed(1.0).ranges)
    assert 0.09 < kept.float().mean() < 0.16


def test_what_is_left_of_a_scan_reaches_from_nothing_to_all_of_it():
    left = returns(failed(1.0))
    for least, most in ((0, 0), (1, 9), (10, 99), (100, 249), (250, 4096)):
        assert ((left >= least) & (left <= most)).any(), (least, most)


def test_a_scan_that_loses_beams_keeps_evenly_many_orders_of_magnitude_of_them():
    # Of 128 beams, 2**7, an eighth and less are left in four of seven; half of the scans lose any.
    few = returns(failed(1.0, frames=WALL)) <= 128 // 8
    assert 0.2 < few.float().mean() < 0.4


def test_a_dead_block_is_of_whole_rows_or_columns_and_leaves_the_others_whole():
    lost = failed(1.0, frames=WALL).ranges >= LIDAR.max_range
    for along in (2, 1):
        dead = lost.all(along)
        # The scenes in which nothing else was lost, and no stray return is in the block.
        blocks = dead[(dead == lost.any(along)).all(1) & dead.any(1) & ~dead.all(1)]
        assert len(blocks) > 20
        assert (blocks.diff(dim=1).sum(1) <= 2).all(), 'dead lines lie side by side'
        # Each scene has a block of its own, which may lie at either end.
        assert len(blocks.sum(1).unique()) > 5
        assert blocks[:, 0].any() and blocks[:, -1].any()


def test_stray_returns_come_where_nothing_was_and_never_behind_what_was():
    frames = failed(1.0)
    assert (frames.ranges <= LIDAR.max_range).all()
    assert (frames.ranges >= 0.5).all(), 'no LiDAR measures closer'
    stray = (WHOLE.ranges >= LIDAR.max_range) & (frames.ranges < LIDAR.max_range)
    assert frames.ranges[stray].max() > 0.99 * LIDAR.max_range, 'they come from anywhere before it'
    # Where beams were lost as well, what they would have met hides nothing.
    lost = (WHOLE.ranges < LIDAR.max_range) & (frames.ranges >= LIDAR.max_range)
    all_kept = ~lost.flatten(1).any(1)
    assert (frames.ranges <= WHOLE.ranges)[all_kept].all()
    counts = stray.flatten(1).sum(1)
    # At most one beam in 32 has one, but for chance.
    assert (counts == 1).any() and 80 < counts.max() < 1.4 * 64 * 64 / 32


def test_images_fail_towards_dark_and_bright_and_keep_their_alpha():
    images = failed(1.0).images
    brightness = images[..., :3].float().mean((1, 2, 3))
    usual = WHOLE.images[..., :3].float().mean((1, 2, 3))
    assert (brightness < 0.2 * usual).any() and (brightness > 3 * usual).any()
    assert torch.equal(images[..., 3], WHOLE.images[..., 3])


def test_the_shades_of_a_dark_image_are_rounded():
    shades = torch.arange(256, dtype=torch.uint8).expand(COUNT, 4, 1, 256).permute(0, 2, 3, 1)
    failed_shades = failed(1.0, frames=replace(WHOLE, images=shades)).images[:, 0, :, 0]
    dark = failed_shades[(failed_shades[:, 255] > 2) & (failed_shades[:, 255] < 12)]
    assert len(dark) > 20
    # What is half as dark as one is the first that is one, and thrice as bright the first two.
    ones, twos = ((dark >= shade).int().argmax(1) for shade in (1, 2))
    assert (3 * ones - twos).abs().max() <= 3


def test_one_seed_gives_the_same_failures():
    first, second, other = failed(0.5, 1), failed(0.5, 1), failed(0.5, 2)
    assert torch.equal(first.ranges, second.ranges) and torch.equal(first.images, second.images)
    assert not torch.equal(first.ranges, other.ranges)
