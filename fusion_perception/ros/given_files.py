"""Tell of parameter files that a node was given and that hold nothing for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from rclpy.node import Node

from fusion_perception.sensing.settings import load_yaml_mapping

_PARAMETERS = 'ros__parameters'


def passed_over(arguments: Sequence[str], node: Node) -> list[str]:
    """Return a sentence for each file of a command line of which nothing reached the node.

    ROS compares the names of a file's sections with the node's, and passes over in silence those
    that are of another.
    """
    # rclpy shows what was given by no other name than this one, on Jazzy as on Kilted.
    given, name = set(node._parameter_overrides), node.get_fully_qualified_name()
    sentences = []
    for flag, file in pairwise(arguments):
        if flag != '--params-file':
            continue
        sections: dict[str, set[str]] = {}
        with suppress(ValueError):  # What is no YAML for us was some for ROS, which has read it.
            sections = dict(_sections(load_yaml_mapping(Path(file))))
        if sections and given.isdisjoint(set().union(*sections.values())):
            sentences.append(
                f'Nothing in {file} is for {name}, it is about {", ".join(sections)}. Call the '
                f"section {name}, or '/**' for any name and namespace."
            )
    return sentences


def _sections(tree: Mapping[str, object], above: str = '') -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each section, as it is written, and the dotted names that it sets."""
    for key, value in tree.items():
        if not isinstance(value, Mapping):
            continue
        if key == _PARAMETERS:
            yield above, set(_names(value))
        else:
            yield from _sections(value, f'{above}/{key}' if above else str(key))


def _names(tree: Mapping[str, object], above: str = '') -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _names(value, f'{above}{key}.')
        else:
            yield f'{above}{key}'
