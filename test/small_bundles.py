"""Small untrained bundles of every model, for tests that ask how one predicts and not how well."""

import torch

from fusion_perception.models import build
from fusion_perception.models.bundle import save_bundle
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.rig import Rig

_NETWORKS = {'channels': (2, 4, 4), 'hidden': (8, 8)}
CONFIGS = {
    'dense_fusion': {'lidar_widths': (8, 16), 'camera_widths': (8, 16)},
    **dict.fromkeys(('rgb', 'lidar', 'early_fusion', 'late_fusion'), _NETWORKS),
}
GRID = UniformGrid().lidar()


def small_bundle(folder, name='dense_fusion', seed=1, examples=None, rig=None):
    """Save a bundle as <model>.safetensors and return its path."""
    torch.manual_seed(seed)
    model = build(name, CONFIGS[name]).eval()
    if name == 'dense_fusion':
        for key, value in model.state_dict().items():
            if key.endswith('sure.2.weight'):
                # Untrained it may believe in one direction alone: no float32 inverts that well.
                value.mul_(0.1)
    path = folder / f'{name}.safetensors'
    save_bundle(path, model, name, rig or Rig(), GRID, {}, examples)
    return path
