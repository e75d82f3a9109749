"""What benchmark.json holds: where it was measured, and each stage with its goal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from fusion_perception.sensing.settings import Settings, load_yaml_mapping
from fusion_perception.whole_files import write_whole


class Machine(Settings):
    """Where a result was measured."""

    cpu: str = Field(description='Name of the processor')
    cores: int = Field(description='Cores that the process may use')
    memory_gib: float = Field(description='Memory of the machine')
    gpu: str | None = Field(description='Name of the GPU, where it was measured on one')
    cuda: str | None = Field(description='Version of CUDA')
    device: str = Field(description='cpu or cuda')
    threads: int = Field(description="PyTorch's threads")
    load_before: float = Field(description='Processes that wanted to run in the minute before')
    system: str = Field(description='Operating system')
    versions: dict[str, str] = Field(description='Versions the figures depend on')
    git_commit: str | None = Field(description='Commit of this package')

    @property
    def kind(self) -> str:
        """Return a file name for machines that should measure alike: CPU, cores and GPU."""
        words = f'{self.cpu} {self.cores} cores {self.gpu or "no GPU"}'
        return re.sub(r'[^a-z0-9]+', '-', words.lower()).strip('-')


class Spread(Settings):
    """The figures of all rounds."""

    median: float = Field(description='What counts')
    p25: float = Field(description='Lower quartile')
    p75: float = Field(description='Upper quartile')
    rounds: tuple[float, ...] = Field(description='In the order of the rounds')

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of some values."""
        p25, p50, p75 = np.percentile(values, (25, 50, 75)).tolist()
        return cls(median=p50, p25=p25, p75=p75, rounds=tuple(values))


class Stage(Settings):
    """A stage with its verdict. `ratio` says how many times better ours is."""

    stage: str = Field(description='Name of the stage')
    unit: str = Field(description='s, ms or scenes/s')
    ours: Spread = Field(description='This package')
    notebook: Spread | None = Field(description="The notebook's way, where there is one")
    ratio: float | None = Field(description='Ratio of the medians')
    ratio_by_round: Spread | None = Field(description='Ratio in each round')
    goal: float = Field(description='Ratio to reach; without one, the figure itself')
    reached: bool = Field(description='Whether the goal is reached')
    what: str = Field(description='What was measured')
    details: dict[str, object] = Field(description='What else is worth keeping')


class Result(Settings):
    """The content of benchmark.json."""

    machine: Machine = Field(description='Where it was measured')
    when: str = Field(description='UTC')
    rounds: int = Field(description='Rounds of each way')
    quick: bool = Field(description='Whether the figures mean nothing')
    settings: dict[str, object] = Field(
        description='Number of scenes, and all settings but the paths'
    )
    stages: tuple[Stage, ...] = Field(description='In the order they were measured')

    def of(self, stage: str) -> Stage | None:
        """Return a stage by name, None where it was not measured."""
        return next((row for row in self.stages if row.stage == stage), None)

    def write(self, path: Path) -> None:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.model_dump_json(indent=2) + '\n')

    @classmethod
    def read_json(cls, path: Path) -> Result:
        """Read a result; raise ValueError when it is none."""
        # JSON is YAML.
        return cls.read(load_yaml_mapping(path), path)
