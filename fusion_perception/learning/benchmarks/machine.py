"""Say which machine, device and versions a measurement comes from."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fusion_perception.cores import usable_cores
from fusion_perception.learning.benchmarks.result import Machine
from fusion_perception.learning.run.folder import git_commit, versions
from fusion_perception.learning.run.memory import memory_bytes

# What the measured times depend on, beside torch and this package.
LIBRARIES = ('numpy', 'pillow', 'onnxruntime', 'openvino', 'tensorrt')
GIB = 2**30


def describe(device: torch.device) -> Machine:
    """Return the machine, its threads and its versions."""
    cuda = device.type == 'cuda'
    return Machine(
        cpu=cpu_model(),
        cores=usable_cores(),
        memory_gib=round(memory_bytes() / GIB, 1),
        gpu=torch.cuda.get_device_name(device) if cuda else None,
        cuda=torch.version.cuda if cuda else None,
        device=device.type,
        threads=torch.get_num_threads(),
        load_before=round(os.getloadavg()[0], 2),
        system=f'{platform.system()} {platform.release()} {platform.machine()}',
        versions={**versions(), **_libraries()},
        git_commit=git_commit(),
    )


def cpu_model() -> str:
    """Return the name of the processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text(errors='replace').splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
