"""Generate a node's ROS parameters from a settings model: default, range, description, choice."""

from __future__ import annotations

import array
import difflib
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args, get_origin

import annotated_types
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from fusion_perception.sensing.settings import Settings, nearest

S = TypeVar('S', bound=Settings)
# From this likeness on a name passes for a misspelt one: `bundel` is 0.83 like `bundle`, and
# `image_topic`, which some other node may have, 0.76 like `image_type`.
MISSPELT = 0.8
# And no more letters than these are wrong: `camera_type` of another node is no `camera_pose`.
MOST_WRONG = 2


class Leaf(NamedTuple):
    """One parameter: its dotted name, the field it comes from, and its default."""

    name: str
    field: FieldInfo
    default: Any


class Parameters(Generic[S]):
    """The parameters of a node, declared from the fields of a settings model.

    A wrong value given at the start does not end the node: `read` reports it until it has been
    corrected. Values set later are validated at once and refused with the reason.
    `live` names the parameters that may change while `in_use()` holds, `read_only` those that
    never change. `changed(settings)` is called after live ones did.
    """

    def __init__(
        self,
        node: Node,
        model: type[S],
        *,
        live: frozenset[str] = frozenset(),
        read_only: frozenset[str] = frozenset(),
        in_use: Callable[[], bool] = lambda: False,
        changed: Callable[[S], None] = lambda settings: None,
    ) -> None:
        self._node, self._model = node, model
        self._live, self._in_use, self._changed = live, in_use, changed
        self._leaves = {leaf.name: leaf for leaf in leaves(model)}
        self._faults: dict[str, str] = {}
        self._declare(read_only)
        for sentence in self.misspelt():
            node.get_logger().warning(sentence)
        node.add_pre_set_parameters_callback(self._coerce)
        node.add_on_set_parameters_callback(self._validate)
        node.add_post_set_parameters_callback(self._accept)

    def read(self) -> S:
        """Return the current settings; raise ValueError with a sentence for each wrong one."""
        faults = list(self._faults.values())
        together = self._fault_of(self._current())
        # In place of a wrong value stands its default, which nobody gave.
        if together and not any(name.rpartition('.')[2] in together for name in self._faults):
            faults.append(together)
        if faults:
            raise ValueError(' '.join(faults))
        return self._read(self._current())

    def misspelt(self) -> list[str]:
        """Return a sentence for each value given at the start under a name like one of ours.

        Others are passed over: a file for all nodes (`/**:`) may name what is meant for another.
        """
        # rclpy shows what was given by no other name than this one, on Jazzy as on Kilted.
        given = self._node._parameter_overrides
        groups = {name.rpartition('.')[0] for name in self._leaves} - {''}
        sentences = []
        for name in sorted(given):
            if self._node.has_parameter(name):
                continue
            if name in groups:
                members = [leaf for leaf in self._leaves if leaf.startswith(f'{name}.')]
                sentences.append(
                    f"'{name}' is no parameter and is ignored. It is a group: "
                    f'{", ".join(members)}.'
                )
            elif (meant := nearest(name, list(self._leaves), MISSPELT)) and _wrong_letters(
                name, meant
            ) <= MOST_WRONG:
                sentences.append(
                    f"There is no parameter '{name}'; it is ignored. Did you mean '{meant}'?"
                )
        return sentences

    def _declare(self, read_only: frozenset[str]) -> None:
        # Take what was given at the start as it came, whatever its type: rclpy would end the
        # node with a traceback where ours can say what is wrong and wait for a better value.
        given = {}
        for name, leaf in self._leaves.items():
            anything = ParameterDescriptor(dynamic_typing=True)
            value = self._node.declare_parameter(name, leaf.default, anything).value
            self._node.undeclare_parameter(name)
            given[name] = _coerced(value, leaf.default)
        suspects = {
            name for name, leaf in self._leaves.items() if not _is_of_type(given[name], leaf)
        }
        try:
            self._model.model_validate(nested(given))
        except ValidationError as error:
            faulty = {'.'.join(map(str, fault['loc'])) for fault in error.errors()}
            # A fault within a list goes by the list's name and the place: invalid_values.0.
            suspects |= faulty | {name.rpartition('.')[0] for name in faulty}
        for name, leaf in self._leaves.items():
            value = given[name]
            if name in suspects:
                self._faults[name] = self._sentence(leaf, value)
                value = leaf.default
            # The value tells the type of the parameter; an empty list would tell a wrong one.
            empty = _is_empty(value)
            first = leaf.default if empty else value
            self._node.declare_parameter(
                name, first, descriptor(leaf, name in read_only), ignore_override=True
            )
            if empty:
                self._node.set_parameters([_empty(leaf)])

    def _sentence(self, leaf: Leaf, value: object) -> str:
        is_of_type = not isinstance(leaf.default, list) or _is_of_type(value, leaf)
        if is_of_type and (fault := self._fault_of({leaf.name: value})):
            return fault
        return f'{leaf.name} = {value!r}: {_needed(leaf.default)} is needed.'

    def _current(self) -> dict[str, object]:
        return {name: self._node.get_parameter(name).value for name in self._leaves}

    def _read(self, values: Mapping[str, object]) -> S:
        return self._model.read(nested(values))

    def _coerce(self, parameters: list[Parameter]) -> list[Parameter]:
        return [
            _as_meant(p, self._leaves[p.name]) if p.name in self._leaves else p for p in parameters
        ]

    def _validate(self, parameters: list[Parameter]) -> SetParametersResult:
        ours = {p.name: p.value for p in parameters if p.name in self._leaves}
        current = self._current()
        fixed = sorted(
            name
            for name, value in ours.items()
            if name not in self._live and not _is_same(value, current[name])
        )
        if fixed and self._in_use():
            return SetParametersResult(
                successful=False,
                reason=f'{", ".join(fixed)} cannot change while the node is configured. '
                'Deactivate and clean up the node, set it, then configure again.',
            )
        reason = self._fault_of({**current, **ours})
        # What was wrong before shall keep nobody from correcting something else.
        if not reason or reason == self._fault_of(current):
            return SetParametersResult(successful=True)
        if len(ours) == 1 and self._is_of_several(nested({**current, **ours})):
            reason += ' The service set_parameters_atomically sets several at once.'
        return SetParametersResult(successful=False, reason=reason)

    def _fault_of(self, values: Mapping[str, object]) -> str:
        """Return what is wrong with values, '' for nothing."""
        try:
            self._read(values)
        except ValueError as fault:
            return str(fault)
        return ''

    def _is_of_several(self, values: Mapping[str, object]) -> bool:
        """Say whether the fault of wrong values lies in how they go together."""
        try:
            self._model.model_validate(values)
        except ValidationError as error:
            # A single parameter's own fault goes by its name, or by a place in its list.
            faulty = ['.'.join(map(str, fault['loc'])) for fault in error.errors()]
            return not any(
                f'{name}.'.startswith(f'{leaf}.') for name in faulty for leaf in self._leaves
            )
        return False

    def _accept(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            self._faults.pop(parameter.name, None)
        healthy = not self._faults and not self._fault_of(self._current())
        if healthy and any(p.name in self._live for p in parameters):
            self._changed(self.read())


def leaves(model: type[Settings]) -> Iterator[Leaf]:
    """Yield the fields of a settings model, nested ones under dotted names."""
    return _leaves(model, model(), '')


def _leaves(model: type[Settings], defaults: Settings, prefix: str) -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        default = getattr(defaults, name)
        if isinstance(default, Settings):
            yield from _leaves(type(default), default, f'{prefix}{name}.')
        else:
            value = list(default) if isinstance(default, tuple) else default
            yield Leaf(prefix + name, field, value)


def descriptor(leaf: Leaf, read_only: bool) -> ParameterDescriptor:
    """Return the description, range and choice of one parameter."""
    choices = get_args(leaf.field.annotation) if is_choice(leaf.field) else ()
    message = ParameterDescriptor(
        name=leaf.name,
        description=leaf.field.description or '',
        additional_constraints=f'One of: {", ".join(map(str, choices))}' if choices else '',
        read_only=read_only,
    )
    if isinstance(leaf.default, float):
        low, high = _bounds(leaf.field, math.nextafter)
        if math.isfinite(low) or math.isfinite(high):
            message.floating_point_range = [
                FloatingPointRange(
                    from_value=max(low, -sys.float_info.max),
                    to_value=min(high, sys.float_info.max),
                    step=0.0,
                )
            ]
    elif isinstance(leaf.default, int) and not isinstance(leaf.default, bool):
        low, high = _bounds(leaf.field, lambda bound, toward: bound + (1 if toward > 0 else -1))
        if math.isfinite(low) or math.isfinite(high):
            message.integer_range = [
                IntegerRange(
                    from_value=int(low) if math.isfinite(low) else -(2**63),
                    to_value=int(high) if math.isfinite(high) else 2**63 - 1,
                    step=1,
                )
            ]
    return message


def nested(values: Mapping[str, object]) -> dict[str, object]:
    """Turn dotted names into nested mappings."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split('.')
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = value
    return tree


def _coerced(value: Any, default: Any) -> Any:
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, list):
        if value is None:  # What an empty list is at the start: it tells of no type.
            return []
        if isinstance(value, (array.array, tuple)):
            return list(value)
    return value


def _as_meant(parameter: Parameter, leaf: Leaf) -> Parameter:
    # `ros2 param set NODE slop 1` sends an integer; 1 is a fine value for a float. An empty list
    # comes as one of bytes or of truth values, whatever the parameter holds.
    if isinstance(leaf.default, float) and parameter.type_ == Parameter.Type.INTEGER:
        return Parameter(parameter.name, value=float(parameter.value))
    if isinstance(leaf.default, list) and _is_empty(parameter.value):
        return _empty(leaf)
    return parameter


def _empty(leaf: Leaf) -> Parameter:
    return Parameter(leaf.name, Parameter.Type.from_parameter_value(leaf.default), [])


def _is_same(one: Any, other: Any) -> bool:
    # Lists come as arrays from some, and as tuples from others.
    values = [list(v) if isinstance(v, (array.array, tuple)) else v for v in (one, other)]
    return bool(values[0] == values[1])


def _is_empty(value: Any) -> bool:
    return isinstance(value, (list, tuple, array.array)) and not value


def _is_of_type(value: Any, leaf: Leaf) -> bool:
    if isinstance(leaf.default, list) and _is_empty(value):
        return True
    kind = Parameter.Type.from_parameter_value
    return bool(kind(value) == kind(leaf.default))


def _needed(default: Any) -> str:
    if isinstance(default, list):
        return f'a list of {type(default[0]).__name__}'
    name = type(default).__name__
    return f'{"an" if name == "int" else "a"} {name}'


def is_choice(field: FieldInfo) -> bool:
    """Say whether a field takes one of a few values."""
    return get_origin(field.annotation) is Literal


def _bounds(field: FieldInfo, beyond: Callable[[float, float], float]) -> tuple[float, float]:
    # A ROS range holds its ends, so an exclusive bound becomes the next number inside it.
    low, high = -math.inf, math.inf
    for rule in field.metadata:
        if isinstance(rule, annotated_types.Ge):
            low = float(rule.ge)  # type: ignore[arg-type]
        elif isinstance(rule, annotated_types.Gt):
            low = beyond(float(rule.gt), math.inf)  # type: ignore[arg-type]
        elif isinstance(rule, annotated_types.Le):
            high = float(rule.le)  # type: ignore[arg-type]
        elif isinstance(rule, annotated_types.Lt):
            high = beyond(float(rule.lt), -math.inf)  # type: ignore[arg-type]
    return low, high


def _wrong_letters(name: str, meant: str) -> int:
    """Return how many letters of a name are left out, too many or others."""
    changes = difflib.SequenceMatcher(None, name, meant, autojunk=False).get_opcodes()
    return sum(max(i - h, k - j) for kind, h, i, j, k in changes if kind != 'equal')
