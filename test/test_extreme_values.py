"""Values that nobody means are refused in a sentence; unusual ones that somebody may are kept."""

import pytest

from fusion_perception.learning.evaluation import EvaluateSettings
from fusion_perception.learning.training import TrainSettings
from fusion_perception.models.dense_fusion import DenseFusionConfig
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rig import ORIGINAL_LIDAR_POSE, Rig
from fusion_perception.sensing.rings import Rings
from fusion_perception.simulation.motion import LiveSettings
from fusion_perception.simulation.noise import NoiseSettings
from fusion_perception.simulation.scene import SceneSettings


def moved(pose, far):
    return [[*row[:3], value] for row, value in zip(pose[:3], far, strict=True)] + [pose[3]]


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('far', [1e8, -1e20, 1e300])
def test_a_pose_beyond_the_earth_is_refused_with_its_place(axis, far):
    place = [0.0, 0.0, 0.0]
    place[axis] = far
    pose = moved(ORIGINAL_LIDAR_POSE, place)
    with pytest.raises(ValueError, match=rf'T_label_lidar\.{axis}\.3 = .*than or equal to -?1000'):
        Rig.read({'T_label_lidar': pose})


@pytest.mark.parametrize(
    ('kind', 'values'),
    [
        (Camera, {'fx': 1e-320}),
        (Camera, {'fy': 1e-45}),
        (Rig, {'max_range': 1e-320}),
        (Rig, {'object_size_m': 1e300}),
        (Rings, {'elevations_deg': [1.0], 'heights_m': [1e38]}),
        (SceneSettings, {'reach_m': 1e300}),
        (SceneSettings, {'camera_shift_m': 1e300}),
        (SceneSettings, {'light_intensity': [0, 1e300]}),
        (LiveSettings, {'camera_hz': 1e-320}),
        (LiveSettings, {'lidar_hz': 1e-12}),
        (NoiseSettings, {'exposure': [0, 1e300]}),
        (DenseFusionConfig, {'scene_center': [0, 1e300, 0]}),
        (DenseFusionConfig, {'scene_sigma': 1e300}),
        (DenseFusionConfig, {'near': 1e300}),
        (DenseFusionConfig, {'nll_weight': 1e300}),
        (TrainSettings, {'batch_size': 2**63, 'model': 'rgb', 'out': 'run'}),
        (TrainSettings, {'fresh_scenes': 10**12, 'model': 'rgb', 'out': 'run'}),
        (TrainSettings, {'devices': 10**6, 'batch_size': 10**6, 'model': 'rgb', 'out': 'run'}),
        (EvaluateSettings, {'batch_size': 2**63, 'bundle': 'shapes', 'data': '.', 'out': 'o'}),
        (EvaluateSettings, {'range_noise': 1e300, 'bundle': 'shapes', 'data': '.', 'out': 'o'}),
    ],
)
def test_what_no_float32_or_memory_holds_is_refused_with_the_bound(kind, values):
    name = next(name for name in values if name != 'elevations_deg')
    with pytest.raises(ValueError, match=rf'^{name}[.\d]* = .*: input should be (less|greater)'):
        kind.read(values)
