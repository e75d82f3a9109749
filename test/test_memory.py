"""However many scenes a folder holds, reading and training hold no more memory."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fusion_perception.learning.data.packing import Packing
from fusion_perception.learning.data.scene_copies import repeated
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.run.batches import TrainingData
from fusion_perception.learning.run.memory import Peak, held_bytes, memory_bytes
from fusion_perception.learning.run.recipe import Recipe
from fusion_perception.learning.simulate import SimulateSettings, simulate

CPU = torch.device('cpu')
MIB = 2**20

pytestmark = [
    pytest.mark.usefixtures('one_thread'),
    pytest.mark.skipif(held_bytes() is None, reason='only Linux says what a process holds'),
]


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'scenes'
    simulate(SimulateSettings(out=folder, count=100))
    return folder


def train_on(folder: Path, share: float = 0.0, device: torch.device = CPU) -> int:
    """Return the most memory that reading the folder and an epoch of batches take."""
    with Peak(device) as peak:
        data = TrainingData(Recipe(data=folder, memory_share=share), device)
        data.describe()
        for raw in data.training('model', 0):
            assert data.observe(raw).rgba.device.type == device.type
    assert peak.bytes is not None
    return peak.bytes


@pytest.mark.slow
def test_eight_times_as_many_scenes_take_no_more_memory(scenes, tmp_path):
    few, many = (repeated(scenes, tmp_path / str(n), n) for n in (200, 1600))
    train_on(few)  # What is loaded and allocated once belongs to neither.
    (few / 'scenes.packed').unlink()
    first_few, first_many = train_on(few), train_on(many)
    again_few, again_many = train_on(few), train_on(many)
    whole = read_folder(many).nbytes
    assert whole > 50 * MIB
    assert first_many - first_few < whole / 2
    assert again_many - again_few < whole / 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_a_set_above_its_share_of_a_gpu_stays_out_of_it(scenes, tmp_path):
    folder = repeated(scenes, tmp_path / 'many', 1600)
    whole, device = read_folder(folder).nbytes, torch.device('cuda')
    assert train_on(folder, 0.5, device) > whole
    assert train_on(folder, 0.0, device) < whole


def test_a_streamed_batch_is_the_batch_of_the_whole_set(scenes):
    whole = TrainingData(Recipe(data=scenes, memory_share=1.0, batch_size=8))
    streamed = TrainingData(Recipe(data=scenes, memory_share=0.0, batch_size=8))
    for pair in zip(whole.training('a', 1), streamed.training('a', 1), strict=True):
        for one, other in zip(*pair, strict=True):
            assert torch.equal(one, other)


def test_what_is_put_piece_by_piece_is_in_the_file(tmp_path):
    layout = {
        'bytes': (np.uint8, (3, 5)),
        'numbers': (np.float32, (2, 2)),
        'none': (np.uint8, (0,)),
    }
    pixels, numbers = np.arange(15, dtype=np.uint8).reshape(3, 5), np.float32([[1, 2], [3, 4]])
    with Packing(tmp_path / 'file', layout, {'about': 'ü'}) as file:
        for index in (2, 0, 1):
            file.put('bytes', pixels[index], index)
        file.put('numbers', numbers.T)
        file.put('none', np.zeros(0, np.uint8))
    found = load_file(tmp_path / 'file')
    assert np.array_equal(found['bytes'], pixels)
    assert np.array_equal(found['numbers'], numbers.T)
    assert found['none'].shape == (0,)


def test_what_does_not_fit_the_layout_is_refused(tmp_path):
    with Packing(tmp_path / 'file', {'bytes': (np.uint8, (3, 5))}, {}) as file:
        with pytest.raises(ValueError, match='layout'):
            file.put('bytes', np.zeros(4, np.uint8), 0)
        with pytest.raises(ValueError, match='layout'):
            file.put('bytes', np.zeros(5, np.uint8))


def test_a_peak_is_what_a_block_took():
    with Peak(CPU) as peak:
        held = torch.ones(8 * MIB)  # float32
    with Peak(CPU) as nothing:
        pass
    assert peak.bytes is not None and held.nbytes <= peak.bytes < held.nbytes + 4 * MIB
    assert nothing.bytes is not None and nothing.bytes < MIB


def test_the_machine_has_memory():
    assert 2**28 < memory_bytes() <= os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
