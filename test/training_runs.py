"""What tests of training share: a recipe that takes a moment, and what a run wrote down."""

import json

import torch
from safetensors.torch import load_file

from fusion_perception.learning.training import TrainSettings

TINY = {'channels': [4, 4], 'hidden': [16]}


def tiny_recipe(scenes, out, **changes):
    values = {
        'data': scenes,
        'model': 'rgb',
        'out': out,
        'epochs': 2,
        'batch_size': 8,
        'learning_rate': 1e-3,
        'device': 'cpu',
        'architecture': TINY,
    }
    return TrainSettings.read({**values, **changes})


def rows_of(run) -> list[dict]:
    rows = json.loads((run / 'metrics.json').read_text())['epochs']
    return [{key: value for key, value in row.items() if key != 'seconds'} for row in rows]


def assert_same_run(one, other):
    assert rows_of(one) == rows_of(other)
    for name in ('checkpoint.safetensors', 'bundle.safetensors'):
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
