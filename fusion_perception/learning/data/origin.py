"""Keep with a data folder which recording it was made of."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field

from fusion_perception.sensing.settings import Settings

ORIGIN = 'recording.yaml'


class Origin(Settings):
    """The recording that `fusion from-bag` made a data folder of."""

    path: str = Field(description='Where it was then')
    sha256: str = Field(description='What tells it from others, wherever it is')

    def write(self, folder: Path) -> None:
        """Write this beside the scenes."""
        (folder / ORIGIN).write_text(yaml.safe_dump(self.model_dump(), sort_keys=False))


def origin_of(folder: Path) -> Origin | None:
    """Return which recording a data folder was made of, None for one made otherwise.

    Raises ValueError when the file that says it is broken.
    """
    path = folder / ORIGIN
    return Origin.read_yaml(path) if path.is_file() else None
