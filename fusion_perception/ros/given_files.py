"""Tell of parameter files that a node was given and that are all about other nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from fusion_perception.sensing.settings import load_yaml_mapping

# In the name of a section, one name, and any number of them.
_WILDCARDS = {'*': r'/\w+', '**': r'(/\w+)*'}


def passed_over(arguments: Sequence[str], node: str) -> list[str]:
    """Return a sentence for each file of a command line that has no section for a node.

    ROS compares the names of sections with the node's full name, and passes over in silence those
    that are of another. What cannot be read here is not judged: ROS has read it before.
    """
    sentences = []
    for flag, file in pairwise(arguments):
        sections: list[str] = []
        if flag == '--params-file':
            # A pipe, say, which can be read once.
            with suppress(ValueError, OSError):
                sections = list(_sections(load_yaml_mapping(Path(file))))
        if sections and not any(is_for(node, section) for section in sections):
            sentences.append(
                f'Nothing in {file} is for {node}, it is about {", ".join(sections)}. Call the '
                f"section {node}, or '/**' for any name and namespace."
            )
    return sentences


def is_for(node: str, section: str) -> bool:
    """Say whether a section of a parameter file is about the node of that full name."""
    names = section.strip('/').split('/')
    pattern = ''.join(_WILDCARDS.get(name, f'/{re.escape(name)}') for name in names)
    return re.fullmatch(pattern, node) is not None


def _sections(tree: Mapping[str, object], above: str = '') -> Iterator[str]:
    """Yield the name of each section as it is written."""
    for key, value in tree.items():
        if key == 'ros__parameters':
            yield above
        elif isinstance(value, Mapping):
            yield from _sections(value, f'{above}/{key}' if above else str(key))
