"""What tests of training share: a recipe that takes a moment, and what a run wrote down."""

import json

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
