"""Write a settings model down for operators: as a parameter file and as a table."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from fusion_perception.ros.parameters import Leaf, is_choice, leaves, nested
from fusion_perception.sensing.settings import Settings


def as_yaml(model: type[Settings]) -> str:
    """Return a parameter file that sets every parameter to its default, each with its comment."""
    tree = nested({leaf.name: leaf for leaf in leaves(model)})
    lines = [
        '# The defaults of every parameter, for any node name and namespace.',
        '/**:',
        '  ros__parameters:',
        *_yaml_lines(tree, '    '),
    ]
    return '\n'.join(lines) + '\n'


def _yaml_lines(tree: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, leaf in tree.items():
        if isinstance(leaf, Leaf):
            comment = f'{leaf.field.description}{_in_brackets(limits(leaf))}'
            yield from textwrap.wrap(
                comment, 96, initial_indent=f'{indent}# ', subsequent_indent=f'{indent}# '
            )
            yield f'{indent}{name}: {json.dumps(leaf.default)}'
        else:
            yield f'{indent}{name}:'
            yield from _yaml_lines(leaf, f'{indent}  ')


def limits(leaf: Leaf) -> str:
    """Return the choice or the range of a parameter in words; '' where everything goes."""
    if is_choice(leaf.field):
        return ' | '.join(map(str, get_args(leaf.field.annotation)))
    signs = {'gt': '>', 'ge': '>=', 'lt': '<', 'le': '<='}
    bounds = [
        f'{sign} {getattr(rule, bound):.10g}'
        for rule in leaf.field.metadata
        for bound, sign in signs.items()
        if hasattr(rule, bound)
    ]
    return ', '.join(bounds)


def as_table(model: type[Settings], live: frozenset[str], read_only: frozenset[str]) -> str:
    """Return a table with one row per parameter; `live` and `read_only` as for `Parameters`."""
    changes = dict.fromkeys(live, 'yes') | dict.fromkeys(read_only, 'never')
    rows = [
        (
            f'`{leaf.name}`',
            f'`{json.dumps(leaf.default)}`',
            limits(leaf),
            changes.get(leaf.name, 'unconfigured'),
            leaf.field.description or '',
        )
        for leaf in leaves(model)
    ]
    lines = [
        '| parameter | default | values | can change | what it is |',
        '| --- | --- | --- | --- | --- |',
        *(f'| {" | ".join(map(_cell, row))} |' for row in rows),
    ]
    return '\n'.join(lines)


def _cell(text: str) -> str:
    return text.replace('|', '\\|')


def _in_brackets(words: str) -> str:
    return f' ({words})' if words else ''
