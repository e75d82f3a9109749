"""The notebook's networks are exactly the notebook's; dense fusion keeps its promises."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fusion_perception.models import MODELS, Estimate, build
from fusion_perception.models.dense_fusion import DenseFusion, _blocks, _steps
from fusion_perception.models.gaussian import (
    invert_symmetric,
    log_determinant,
    precision_from,
)
from fusion_perception.sensing.assembly import observe
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import BESIDE_THE_LIDAR, Camera
from fusion_perception.sensing.rig import TASK_CLASSES, Rig
from fusion_perception.simulation.render import render
from fusion_perception.simulation.scene import SceneSettings, sample_scenes

SMALL_NET = {'channels': (4, 8, 8), 'hidden': (32, 16)}
SMALL = {
    'rgb': SMALL_NET,
    'lidar': SMALL_NET,
    'late_fusion': SMALL_NET,
    'early_fusion': SMALL_NET,
    'dense_fusion': {'lidar_widths': (8, 16), 'camera_widths': (8, 16)},
}


def observation(count=2, height=64, width=64, grid=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lidar = (grid or UniformGrid()).lidar()
    images = torch.randint(0, 256, (count, height, width, 4), generator=generator).byte()
    ranges = 15 + 45 * torch.rand(count, *lidar.shape, generator=generator)
    return observe(images, ranges, Camera().resized(width, height), lidar)


def weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('rgb', 13_129_159),
        ('lidar', 13_129_159),
        ('early_fusion', 13_130_959),
        ('late_fusion', 2 * 13_129_159 + 18 * 90 + 90 + 90 * 9 + 9),
    ],
)
def test_a_notebook_network_has_as_many_parameters_as_in_the_notebook(name, expected):
    assert weights(build(name)) == expected


def test_the_notebook_network_is_three_convolutions_and_three_linear_layers():
    torch.manual_seed(0)
    net = build('rgb').net
    layers = []
    for before, after in ((4, 50), (50, 100), (100, 200)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(12800, 1000), nn.ReLU(), nn.Linear(1000, 100), nn.ReLU()]
    theirs = nn.Sequential(*layers, nn.Linear(100, 9))
    theirs.load_state_dict(net.layers.state_dict())
    image = torch.rand(2, 4, 64, 64)
    found, expected = net(image) - net.origin, theirs(image).reshape(2, 3, 3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    for output in (found, expected):
        output.square().sum().backward()
    for ours, their in zip(net.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, their.grad, atol=1e-5, rtol=1e-4)


def test_late_fusion_trains_two_networks_and_then_only_its_head():
    model = build('late_fusion', SMALL_NET)
    stages = model.stages()
    assert [stage.name for stage in stages] == ['rgb', 'lidar', 'late_fusion']
    moving = [{id(parameter) for parameter in stage.parameters} for stage in stages]
    assert not moving[0] & moving[1]
    assert moving[2] == {id(parameter) for parameter in model.head.parameters()}
    assert build('late_fusion', {**SMALL_NET, 'head': 7}).head[0].out_features == 7


@pytest.mark.parametrize('name', list(MODELS))
def test_a_batch_gives_the_same_centres_as_its_samples_one_by_one(name):
    model = build(name, SMALL[name]).eval()
    batch = observation(3)
    with torch.inference_mode():
        together = model(batch).centers
        alone = torch.cat([model(batch[i : i + 1]).centers for i in range(3)])
    assert together.shape == (3, 3, 3)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('name', list(MODELS))
def test_the_number_of_objects_is_the_configs(name):
    model = build(name, {**SMALL[name], 'objects': 5}).eval()
    assert model(observation()).centers.shape == (2, 5, 3)


def test_the_camera_network_does_not_look_at_the_lidar():
    model = build('rgb', SMALL_NET).eval()
    seen = observation()
    blind = replace(seen, xyza=torch.zeros_like(seen.xyza))
    torch.testing.assert_close(model(seen).centers, model(blind).centers)


def test_an_unknown_model_is_answered_with_the_closest_name():
    with pytest.raises(ValueError, match="Did you mean 'late_fusion'"):
        build('late_fuson')


def test_an_unknown_config_key_is_answered_with_the_closest_key():
    with pytest.raises(ValueError, match=r"RgbConfig has no 'chanels'\. Did you mean 'channels'"):
        build('rgb', {'chanels': (1, 2, 3)})


@pytest.mark.parametrize(
    ('height', 'width', 'rows', 'columns'), [(48, 80, 16, 128), (33, 47, 65, 31), (64, 64, 64, 64)]
)
def test_dense_fusion_takes_any_sensor_size(height, width, rows, columns):
    model = build('dense_fusion', SMALL['dense_fusion']).eval()
    grid = UniformGrid(rows=rows, columns=columns, azimuth_step_deg=0.2, zenith_step_deg=0.2)
    assert model(observation(1, height, width, grid)).centers.isfinite().all()


@pytest.mark.parametrize('silent', ['camera', 'lidar'])
def test_what_a_silent_sensor_shows_does_not_matter(silent):
    model = build('dense_fusion', SMALL['dense_fusion']).eval()
    one = observation(seed=1).without(silent)
    image = 'rgba' if silent == 'camera' else 'xyza'
    other = replace(one, **{image: torch.rand_like(getattr(one, image))})
    torch.testing.assert_close(model(one).centers, model(other).centers, atol=1e-4, rtol=1e-4)


def blank(ranges):
    lidar = UniformGrid().lidar()
    images = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    return observe(images, torch.full((1, *lidar.shape), ranges), Camera(), lidar)


@pytest.mark.parametrize('ranges', [50.0, float('nan'), float('inf'), 0.0, -1.0])
def test_without_any_return_dense_fusion_is_unsure_but_finite(ranges):
    torch.manual_seed(0)
    model = build('dense_fusion', SMALL['dense_fusion']).eval()
    estimate = model(blank(ranges).without('camera'))
    assert estimate.centers.isfinite().all()
    sigma = torch.linalg.eigvalsh(estimate.covariance).sqrt()
    assert (sigma > 2).all(), 'knowing nothing, it must be as unsure as the prior'


@pytest.mark.parametrize('grey', [0, 128, 255])
def test_an_image_of_one_colour_says_as_much_as_none(grey):
    model = build('dense_fusion', SMALL['dense_fusion']).eval()
    seen = observation()
    noise = torch.randint(-2, 3, seen.rgba.shape, generator=torch.Generator().manual_seed(3))
    flat = replace(seen, rgba=((grey + noise).clamp(0, 255) / 255)).without('lidar')
    estimate = model(flat)
    prior = model.prior_log_sigma.exp().square()[:, None, None] * torch.eye(3)
    torch.testing.assert_close(estimate.covariance, prior.expand(2, 3, 3, 3))
    torch.testing.assert_close(estimate.centers, model.prior_center.expand(2, 3, 3))
    assert not torch.equal(model(seen.without('lidar')).centers, estimate.centers)
    flat.rgba[:, 0] = seen.rgba[:, 0]
    assert not torch.equal(model(flat).centers, estimate.centers), 'there is something red in it'


@pytest.mark.parametrize('seed', range(5))
def test_an_untrained_model_is_unsure_by_about_a_metre(seed):
    torch.manual_seed(seed)
    model = build('dense_fusion')
    seen = observation(count=8, seed=seed)
    truth = torch.tensor([0.0, 25.0, 0.0]) + 4 * torch.rand(8, 3, 3)
    for silent in (None, 'camera', 'lidar'):
        estimate = model(seen if silent is None else seen.without(silent))
        variances = torch.linalg.eigvalsh(estimate.covariance)
        assert variances.min() > 0.3
        assert variances.max() < 1.5
        assert model.training_loss(estimate, truth) < 100


def test_a_gradient_flows_from_every_mode_without_nan():
    model = build('dense_fusion', SMALL['dense_fusion']).train()
    seen = observation(4)
    seen = replace(
        seen,
        camera=torch.tensor([True, True, False, True]),
        lidar=torch.tensor([True, False, True, True]),
    )
    seen.xyza[3, 3] = 0  # A present LiDAR without a single return.
    model.training_loss(model(seen), torch.zeros(4, 3, 3)).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_covariance_is_symmetric_and_positive():
    covariance = build('dense_fusion', SMALL['dense_fusion']).eval()(observation()).covariance
    torch.testing.assert_close(covariance, covariance.transpose(-1, -2))
    assert (torch.linalg.eigvalsh(covariance.double()) > 0).all()


def test_the_closed_forms_agree_with_linear_algebra():
    generator = torch.Generator().manual_seed(3)
    precision = precision_from(torch.randn(50, 6, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(invert_symmetric(precision), torch.linalg.inv(precision))
    torch.testing.assert_close(log_determinant(precision), torch.logdet(precision))


def test_after_calibration_errors_are_as_large_as_the_covariance_says():
    torch.manual_seed(0)
    model = build('dense_fusion', SMALL['dense_fusion']).eval()
    seen = observation(16)
    centers = torch.tensor([0.0, 25.0, 0.0]) + 3 * torch.randn(16, 3, 3)
    before = model(seen).centers
    model.calibrate([(seen[:8], centers[:8]), (seen[8:], centers[8:])])
    for mode in (seen, seen.without('lidar'), seen.without('camera')):
        estimate = model(mode)
        error = (estimate.centers - centers).unsqueeze(-1)
        distance = error.transpose(-1, -2) @ torch.linalg.inv(estimate.covariance) @ error
        assert distance.mean().item() == pytest.approx(3, rel=1e-2)
    torch.testing.assert_close(model(seen).centers, before, msg='centres must stay')


def test_in_bfloat16_the_sensors_are_combined_as_precisely_as_in_float32():
    model = build('dense_fusion', {}).eval()
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        found = model(observation(4))
    prior = torch.eye(3).double() * (-2 * model.prior_log_sigma.double()).exp()[:, None, None]
    total = prior + sum(part.covariance.double() for part in found.parts)
    pull = prior @ model.prior_center.double().unsqueeze(-1) + sum(
        part.covariance.double() @ part.centers.double().unsqueeze(-1) for part in found.parts
    )
    expected = torch.linalg.solve(total, pull).squeeze(-1)
    assert (found.centers - expected).norm(dim=-1).max() < 1e-4


@pytest.mark.parametrize(('sigma', 'best'), [(3.0, 1.0), (0.01, 0.0)])
def test_a_centre_that_may_be_anywhere_is_best_in_the_mean_and_a_sure_one_in_the_median(
    sigma, best
):
    model = build('dense_fusion', {**SMALL['dense_fusion'], 'nll_weight': 0})
    truths = torch.tensor([0.0, 0.0, 3.0]).view(3, 1, 1).expand(3, 3, 3)
    covariance = (sigma**2 * torch.eye(3)).expand(3, 3, 3, 3)

    def loss(place):
        return model.training_loss(Estimate(torch.full_like(truths, place), covariance), truths)

    places = [step / 20 for step in range(-20, 81)]
    assert min(places, key=loss) == pytest.approx(best, abs=0.05)


def test_a_calibrated_model_is_rebuilt_from_its_config():
    model = build('dense_fusion', SMALL['dense_fusion']).eval()
    model.calibrate([(observation(4), torch.zeros(4, 3, 3))])
    again = build('dense_fusion', model.config.model_dump()).eval()
    again.load_state_dict(model.state_dict())
    seen = observation()
    torch.testing.assert_close(again(seen).covariance, model(seen).covariance)


def test_a_matrix_that_rounding_makes_indefinite_leaves_the_log_determinant_finite():
    indefinite = torch.diag(torch.tensor([1e5, -1e-3, 1.0])).requires_grad_()
    value = log_determinant(indefinite)
    value.backward()
    assert value.isfinite()
    assert indefinite.grad.isfinite().all()


@pytest.mark.parametrize('aside', [0.0, 2.0])
@pytest.mark.parametrize('pixels', [(64, 64, 73.3), (200, 150, 150.0)])
def test_blocks_of_points_get_the_colour_of_the_cube_they_lie_on(aside, pixels):
    width, height, focal = pixels
    pose = torch.eye(4)
    pose[:3] = torch.tensor(BESIDE_THE_LIDAR)[:3]
    pose[0, 3] += aside
    camera = Camera(
        width=width, height=height, fx=focal, fy=focal, cx=width / 2, cy=height / 2,
        T_camera_lidar=pose.tolist(),
    )  # fmt: skip
    lidar = UniformGrid().lidar()
    rig = Rig(classes=TASK_CLASSES['cubes'], camera=camera)
    # Ambient light, so that no face is black.
    look = SceneSettings(task='cubes', ambient=(0.5, 0.5))
    scenes = sample_scenes(8, look, torch.Generator().manual_seed(3), rig=rig)
    frames = render(scenes, rig, lidar)
    seen = observe(frames.images, frames.ranges, camera, lidar)
    mask = seen.xyza[:, 3:]
    blocks = _blocks(seen.xyza * mask)
    # Whole blocks well within one cube; the others may mix two surfaces.
    surface = blocks[:, :3] / blocks[:, 3:].clamp_min(1e-6)
    away = (surface.unsqueeze(1) - scenes.centers[..., None, None]).norm(dim=2)
    nearest, sure = away.argmin(1), (away.sort(1).values.diff(dim=1)[:, 0] > 2.5)
    colour = DenseFusion._colour_at(surface, blocks[:, 3:] > 0, seen)
    told = sure & (blocks[:, 3] == 1) & (colour[:, 3] > 0)
    assert told.sum() > 400
    right = (colour[:, :3].argmax(1) == nearest)[told].float().mean()
    assert right > 0.95  # The camera sees another cube before some points.


def surface(rows=5, columns=7):
    """Return points (1, 4, R, C) of a slanted plane 25 m away, and a mask of all ones."""
    row, column = torch.meshgrid(
        torch.arange(rows) * 0.2, torch.arange(columns) * 0.1, indexing='ij'
    )
    return torch.stack((column, 25 + row - column, -row, torch.ones_like(row)))[None]


def test_steps_are_the_same_all_over_a_plane_and_stop_at_its_border():
    steps = _steps(surface())
    assert steps.shape == (1, 6, 5, 7)
    down, right = torch.tensor([0, 0.2, -0.2]), torch.tensor([0.1, -0.1, 0])
    along = steps[0].permute(1, 2, 0) / 4
    torch.testing.assert_close(along[:-1, :, :3], down.expand(4, 7, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(along[:, :-1, 3:], right.expand(5, 6, 3), atol=1e-5, rtol=0)
    assert not along[-1, :, :3].any()
    assert not along[:, -1, 3:].any()


def test_steps_stay_what_they_are_beside_a_surface_in_front_and_a_missing_point():
    points = surface()
    alone = _steps(points)
    points[:, :3, :, 3:] *= 0.8
    points[..., 1, 1] = 0
    steps = _steps(points)
    torch.testing.assert_close(steps[..., 2:, :2], alone[..., 2:, :2])
    assert steps[:, 3:, :, 2].abs().max() <= 2  # The edge, five metres deep.
    assert not steps[:, :, 1, 1].any()
    assert not steps[:, :3, 0, 1].any()
    assert not steps[:, 3:, 1, 0].any()


@pytest.mark.parametrize(('rows', 'columns'), [(1, 9), (9, 1), (1, 1)])
def test_a_scan_of_one_row_or_column_has_steps_too(rows, columns):
    steps = _steps(surface(rows, columns))
    assert steps.shape == (1, 6, rows, columns)
    assert bool(steps.any()) == (rows * columns > 1)
