"""Dense fusion: small blocks of LiDAR points and camera pixels vote for every object's centre.

A block of 2x2 LiDAR points is a spot on a surface, so it need only say how far away the centre of
its object is, and how much to trust it. A block of 4x4 camera pixels is a ray, so it says how far
along a ray beside its own the centre lies. Each sensor's votes are averaged with learned weights
and get a covariance; the two Gaussians and a weak prior are then combined by their precision, so
that a silent sensor simply contributes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, pad

from fusion_perception.models.base import Estimate, FusionModel, ModelConfig, Positive, Width
from fusion_perception.models.gaussian import (
    invert_symmetric,
    log_determinant,
    precision_from,
    squared_mahalanobis,
)
from fusion_perception.models.unet import UNet
from fusion_perception.models.votes import Votes
from fusion_perception.sensing.blank_images import shows_anything
from fusion_perception.sensing.observation import LARGEST_RANGE, Coordinate, Observation

# A factor of zero would claim that a model never errs; beyond the other it knows nothing.
_LEAST_SCALE, _MOST_SCALE = 1e-4, 1e9
Scale = Annotated[float, Field(ge=_LEAST_SCALE, le=_MOST_SCALE)]


class DenseFusionConfig(ModelConfig):
    """Settings of dense fusion."""

    fitted = frozenset({'covariance_scale'})
    lidar_widths: tuple[Width, ...] = Field(
        (32, 48, 64), min_length=1, description='Channels per LiDAR level'
    )
    camera_widths: tuple[Width, ...] = Field(
        (16, 32, 64), min_length=2, description='Channels per camera level; the second one votes'
    )
    scene_center: tuple[Coordinate, Coordinate, Coordinate] = Field(
        (0.0, 25.0, 0.0), description='Where objects are before anything is seen, LiDAR frame, m'
    )
    scene_sigma: Positive = Field(3.0, description='Their standard deviation per axis, metres')
    reach: Positive = Field(2.0, description='Typical offset from a surface to a centre, m')
    near: Positive = Field(
        0.05, description='Up to this size, metres, an error counts by its square'
    )
    expected: float = Field(
        2.0,
        ge=0,
        le=LARGEST_RANGE,
        description='The same, in standard deviations that the model states; the larger counts',
    )
    nll_weight: float = Field(
        0.05, ge=0, le=LARGEST_RANGE, description='Weight of the likelihood in the loss'
    )
    covariance_scale: tuple[Scale, Scale, Scale] = Field(
        (1.0, 1.0, 1.0),
        description='Factor on the covariance: both sensors, camera alone, LiDAR alone',
    )

    @field_validator('scene_center')
    @classmethod
    def _is_ahead(cls, center: tuple[float, float, float]) -> tuple[float, float, float]:
        # The camera's votes begin at this depth.
        if center[1] <= 0:
            raise ValueError(
                'y is forward and says how far ahead the objects typically are; give more than 0'
            )
        return center


class BySensor(NamedTuple):
    """What one sensor says: centers (B, K, 3) metres, LiDAR frame, and how sure it is.

    `sure` (B, K, 6) is what `precision_from` turns into precisions; they count where the sensor
    `speaks` (B,), that is, where it is there and sees anything.
    """

    centers: Tensor
    sure: Tensor
    speaks: Tensor


class DenseFusion(FusionModel):
    """Predict from LiDAR and camera, or from either alone, with a covariance per centre."""

    modes = frozenset({'fusion', 'camera_only', 'lidar_only'})

    def __init__(self, config: DenseFusionConfig) -> None:
        super().__init__()
        self.config: DenseFusionConfig = config
        objects = config.objects
        self.lidar_net = UNet(13, config.lidar_widths, beside=4)
        self.lidar_votes = Votes(config.lidar_widths[0], objects)
        # From a quarter of the resolution on: a camera's pixel knows its depth to decimetres only.
        self.camera_net = UNet(3, config.camera_widths, finest=1)
        self.camera_votes = Votes(config.camera_widths[1], objects)
        # Not learned: seldom needed, it would drift to wherever the weights' decay pulls it.
        self.register_buffer('prior_center', torch.tensor(config.scene_center).repeat(objects, 1))
        self.register_buffer('prior_log_sigma', torch.full((objects,), config.scene_sigma).log())
        self.prior_center: Tensor
        self.prior_log_sigma: Tensor

    def forward(self, observation: Observation) -> Estimate:
        """Predict the centres of a batch; a silent sensor contributes nothing."""
        return self.combine(self.by_lidar(observation), self.by_camera(observation))

    def by_lidar(self, observation: Observation) -> BySensor:
        """Say where the LiDAR alone sees the objects; the colour at its points helps it."""
        mask = observation.xyza[:, 3:]
        valid_points = observation.xyza * mask
        points = valid_points[:, :3]
        # The vote of each 2x2 block starts from the mean of its points, and that is coloured.
        blocks = _blocks(valid_points)
        share = blocks[:, 3:]
        surface = blocks[:, :3] / share.clamp_min(1e-6)
        valid = share > 0
        total = blocks.sum((2, 3), keepdim=True)
        from_scene = points - total[:, :3] / total[:, 3:].clamp_min(1e-6)
        from_near = points - _mean_nearby(blocks, points.shape[-2:])
        shape = torch.cat((from_scene / 5, from_near, mask, _steps(valid_points)), 1) * mask
        features = self.lidar_net(shape, self._colour_at(surface, valid, observation))
        with _full_precision(features):
            found: tuple[Tensor, Tensor] = self.lidar_votes(
                features.float(),
                lambda raw: surface.unsqueeze(1) + raw * self.config.reach,
                valid,
            )
        return BySensor(*found, (total[:, 3, 0, 0] > 0) & observation.lidar)

    def by_camera(self, observation: Observation) -> BySensor:
        """Say where the camera alone sees the objects."""
        image = observation.rgba[:, :3]
        features = self.camera_net(image)
        with _full_precision(features):
            found: tuple[Tensor, Tensor] = self.camera_votes(
                features.float(), lambda raw: self._along_rays(raw, observation)
            )
        return BySensor(*found, _sees(observation))

    def alone(self, observation: Observation) -> tuple[Estimate, Estimate]:
        """Say what LiDAR and camera, each by itself, see; the prior has no part in it."""
        return _by_itself(self.by_lidar(observation)), _by_itself(self.by_camera(observation))

    def combine(self, by_lidar: BySensor, by_camera: BySensor) -> Estimate:
        """Weigh what the sensors say, and what was believed before, by how sure they are."""
        # In bfloat16 the combination alone would move the centres by centimetres.
        with _full_precision(by_lidar.centers):
            return self._combined(by_lidar, by_camera)

    def _combined(self, by_lidar: BySensor, by_camera: BySensor) -> Estimate:
        centers = _both(by_lidar.centers, by_camera.centers)
        speaks = _both(by_lidar.speaks, by_camera.speaks).view(2, -1, 1, 1, 1)
        precisions = precision_from(_both(by_lidar.sure, by_camera.sure)) * speaks
        eye = torch.eye(3, device=centers.device)
        prior = (-2 * self.prior_log_sigma).exp()[:, None, None] * eye
        covariance = invert_symmetric(precisions.sum(0) + prior)
        # Filled on the device: copying numbers there would not do in a CUDA graph.
        scale = torch.stack([covariance.new_full((), s) for s in self.config.covariance_scale])
        # 0: neither sensor speaks, 1: the camera, 2: the LiDAR, 3: both.
        presence = by_camera.speaks.long() + 2 * by_lidar.speaks.long()
        # Seen from the prior's centre: float32 keeps a tenth of a millimetre of 25 m times a sharp
        # precision, but more of a few metres.
        offsets = (centers - self.prior_center).unsqueeze(-2)
        # Products of so small matrices cost an engine more than what they are made of.
        information = (precisions * offsets).sum((0, -1)).unsqueeze(-2)
        combined = self.prior_center + (covariance * information).sum(-1)
        parts = tuple(map(Estimate, centers, precisions))
        # With neither only the prior speaks, and it needs no correction.
        of_neither, of_each_alone, of_both = torch.ones_like(scale[:1]), scale[1:], scale[:1]
        scale_by_presence = torch.cat((of_neither, of_each_alone, of_both))
        factor = scale_by_presence[presence]
        return Estimate(combined, covariance * factor.view(-1, 1, 1, 1), parts)

    @torch.inference_mode()
    def calibrate(self, batches: Iterable[tuple[Observation, Tensor]]) -> None:
        """Scale the covariances, per mode, until squared Mahalanobis distances average 3.

        That is their mean in three dimensions when the errors are as large as they are said to be.
        """
        self.eval()
        self.config = self.config.model_copy(update={'covariance_scale': (1.0, 1.0, 1.0)})
        distances: tuple[list[Tensor], ...] = ([], [], [])
        for observation, centers in batches:
            modes = (observation, observation.without('lidar'), observation.without('camera'))
            for seen, found in zip(modes, distances, strict=True):
                estimate = self(seen)
                precision = invert_symmetric(estimate.covariance)
                error = estimate.centers - centers
                found.append(squared_mahalanobis(error, precision).flatten())
        means = (round(float(torch.cat(found).mean()) / 3, 4) for found in distances)
        scale = tuple(min(max(mean, _LEAST_SCALE), _MOST_SCALE) for mean in means)
        self.config = self.config.model_copy(update={'covariance_scale': scale})

    def training_loss(self, estimate: Estimate, centers: Tensor) -> Tensor:
        """Ask for close centres and for an honest covariance, of the whole and of each sensor."""
        assert estimate.covariance is not None
        precision = invert_symmetric(estimate.covariance)
        loss = self._score(estimate.centers, precision, centers).mean()
        for part in estimate.parts:
            assert part.covariance is not None
            # A sensor that was silent has no precision; it must not be asked for anything.
            there = part.covariance[..., 0, 0] > 0
            eye = torch.eye(3, device=centers.device)
            safe = torch.where(there[..., None, None], part.covariance, eye)
            score = self._score(part.centers, safe, centers)
            loss = loss + 0.5 * torch.where(there, score, 0.0).mean()
        return loss

    def _score(self, estimate: Tensor, precision: Tensor, truth: Tensor) -> Tensor:
        """Return the loss (...) of estimates (..., 3) with precisions P (..., 3, 3).

        With the error e = estimate - truth it is, over the three axes i,

            sum_i h_i(|e_i|) / max(s_i, near) + nll_weight * (e^T P e - log det P),

        where s_i = P_ii^-1/2 is the standard deviation that axis i is said to have, and h_i
        Huber's function: h(a) = a^2 / 2 up to d, and d * (a - d / 2) from there on, with
        d_i = max(expected * s_i, near). s in the first term and e in the second are constants:
        neither of them has a gradient there.
        """
        error = estimate - truth
        # Absolute errors ask for the median of all places where an object may be, squared ones for
        # the mean, which is what an object that nobody sees wants: behind either of two others.
        sigma = precision.diagonal(dim1=-2, dim2=-1).detach().clamp_min(1e-6).rsqrt()
        near, size = self.config.near, error.abs()
        squared = size.minimum((self.config.expected * sigma).clamp_min(near))
        close = (squared * (size - squared / 2) / sigma.clamp_min(near)).sum(-1)
        # The covariance learns from the error; the error must not hide behind the covariance.
        distance = squared_mahalanobis(error.detach(), precision)
        likelihood = distance - log_determinant(precision)
        score: Tensor = close + self.config.nll_weight * likelihood
        return score

    def _along_rays(self, raw: Tensor, observation: Observation) -> Tensor:
        """Turn (B, K, 3, h, w) pixel offsets and log depths into points of the LiDAR frame."""
        height, width = raw.shape[-2:]
        # Each pixel of the features covers four by four of the image.
        v, u = torch.meshgrid(
            torch.arange(height, dtype=raw.dtype, device=raw.device) * 4 + 1.5,
            torch.arange(width, dtype=raw.dtype, device=raw.device) * 4 + 1.5,
            indexing='ij',
        )
        pixels = torch.stack((u, v)) + 8 * raw[:, :, :2]
        depth = self.config.scene_center[1] * (0.3 * raw[:, :, 2:]).clamp(-5, 3).exp()
        lens = observation.intrinsics[:, :2]
        principal = lens[..., 2:].reshape(-1, 1, 2, 1, 1)
        # There is no skew: beside a focal length stands a zero.
        focal = lens[..., :2].sum(2).view(-1, 1, 2, 1, 1)
        in_camera = torch.cat(((pixels - principal) / focal * depth, depth), 2)
        # Out of the camera's frame: the transposed rotation, after the translation is taken away.
        pose = observation.T_camera_lidar[:, :3].unsqueeze(1)
        in_camera = in_camera.flatten(3) - pose[..., 3:]
        votes: Tensor = pose[..., :3].transpose(-1, -2) @ in_camera
        return votes.reshape(*votes.shape[:3], height, width)

    @staticmethod
    def _colour_at(points: Tensor, valid: Tensor, observation: Observation) -> Tensor:
        """Sample the image where valid points project, and say if they do: (B, 4, h, w).

        points are (B, 3, h, w), valid (B, 1, h, w) bool.
        """
        image = observation.rgba[:, :3]
        # Coordinates stay in front, (B, 3, h, w): behind, they compute several times slower.
        with _full_precision(points):
            projection = observation.intrinsics @ observation.T_camera_lidar[:, :3]
            projected = projection[..., :3] @ points.flatten(2) + projection[..., 3:]
        projected = projected.unflatten(2, points.shape[2:])
        depth = projected[:, 2:]
        in_front = depth > 1e-6
        pixels = projected[:, :2] / torch.where(in_front, depth, 1.0)
        # As grid_sample counts: the image reaches from -1 to 1.
        across = torch.stack([pixels.new_full((1, 1), 2 / side) for side in image.shape[:-3:-1]])
        place = pixels * across + (across / 2 - 1)
        inside = in_front & (place.abs().amax(1, keepdim=True) <= 1)
        inside = inside & valid & _sees(observation).view(-1, 1, 1, 1)
        grid = place.permute(0, 2, 3, 1)
        colour = grid_sample(image, grid, mode='bilinear', align_corners=False)
        seen = inside.to(colour.dtype)
        return torch.cat((colour * seen, seen), 1)


def _by_itself(seen: BySensor) -> Estimate:
    centers = seen.centers.where(seen.speaks.view(-1, 1, 1), torch.nan)
    return Estimate(centers, invert_symmetric(precision_from(seen.sure)))


def _sees(observation: Observation) -> Tensor:
    """Say of each sample whether its camera is there and sees anything, (B,) bool."""
    return shows_anything(observation.rgba[:, :3]) & observation.camera


def _both(one: Tensor, other: Tensor) -> Tensor:
    """Stack two tensors (B, ...) of one shape as (2, B, ...)."""
    # In a graph torch.stack is a node more.
    return torch.cat((one, other)).view(2, *one.shape)


def _full_precision(features: Tensor) -> torch.autocast:
    """Keep centimetres: bfloat16 features will do, bfloat16 positions would not."""
    return torch.autocast(features.device.type, enabled=False)


def _steps(points: Tensor) -> Tensor:
    """Return the way from each point to the next in its column and row, (B, 6, R, C), in 0.25 m.

    It shows how a surface is turned and bent to millimetres even in bfloat16, and beside an edge
    too, where means are of several surfaces. `points` (B, 4, R, C) are all zeros where there is
    none, and the way is zero where a point or the next is missing. Longer than half a metre per
    axis is another surface: how far away it is, the means say.
    """
    here, mask = points[:, :3], 4 * points[:, 3:]
    ways = []
    for axis in (2, 3):
        beyond = points.narrow(axis, 1, points.shape[axis] - 1)
        after = pad(beyond, (0, axis == 3, 0, axis == 2))
        ways.append(((after[:, :3] - here) * (after[:, 3:] * mask)).clamp(-2, 2))
    return torch.cat(ways, 1)


def _blocks(points: Tensor) -> Tensor:
    """Return the mean of every 2x2 block, (B, C, ceil(R / 2), ceil(C / 2)); zeros lie beyond."""
    return avg_pool2d(_padded(points), 2)


def _mean_nearby(blocks: Tensor, size: torch.Size) -> Tensor:
    """Return the mean of the valid points around each pixel, (B, 3, *size), smoothly varying.

    From the means of points and mask by 2x2 block, (B, 4, h, w).
    """
    # Windows of 8x8 points, four apart, the first and last of which reach beyond the ends; put
    # together from blocks, which some engines do in a tenth of the time.
    pooled = avg_pool2d(_padded(blocks), 4, 2, padding=1)
    around = interpolate(pooled, size, mode='bilinear', align_corners=False)
    return around[:, :3] / around[:, 3:].clamp_min(1e-6)


def _padded(image: Tensor) -> Tensor:
    """Return an image (B, C, H, W) with zeros at the end of its odd sides."""
    below, right = (side % 2 for side in image.shape[-2:])
    return pad(image, (0, right, 0, below)) if below or right else image
