"""Write a .safetensors file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors and metadata in one step: a reader sees the old file or the new one.

    Raises OSError where they cannot be written, as on a full disk; the old file stays.
    """
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix='.part')
    os.close(handle)
    try:
        save_file(dict(tensors), draft, dict(about))
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except SafetensorError as error:
        raise OSError(f'{path} cannot be written: {error}. Make room there.') from None
    finally:
        Path(draft).unlink(missing_ok=True)
