"""The base of every settings model: frozen, strict, and clear about a wrong key or value."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from fusion_perception.sensing.counted import counted
from fusion_perception.sensing.quoting import escaped, quoted, reason

S = TypeVar('S', bound='Settings')
_MOST_FAULTS = 5  # An Ouster has 128 beams, and each of them may be wrong.
# What PyYAML lets through besides its own errors: of an empty `!!int`, of 3,000 brackets, ...
YAML_FAULTS = (
    yaml.YAMLError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class Settings(BaseModel):
    """Settings that cannot change after they were read and know every key they accept."""

    model_config = ConfigDict(
        frozen=True, extra='forbid', protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator('*', mode='wrap')
    @classmethod
    def _is_no_truth_value_for_a_number(
        cls, value: object, validated: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> object:
        result: object = validated(value)
        # YAML reads yes as true, which pydantic takes for 1. Only what it takes is looked through:
        # YAML that names itself, or stands for billions of values, has then been refused.
        name = info.field_name
        if name is not None and _is_of_numbers(cls, name) and _holds_truth_value(value):
            raise ValueError(
                'input should be a valid number; in YAML yes and on are true, no and off false'
            )
        return result

    @classmethod
    def read(cls: type[S], values: Mapping[str, object], source: str | Path | None = None) -> S:
        """Validate a mapping and raise ValueError with one sentence per fault.

        `source` names where the values come from (a file, a flag) and leads the sentence.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = explain(cls, error)
            raise ValueError(f'{source}: {faults}' if source else faults) from None

    @classmethod
    def read_yaml(cls: type[S], path: Path) -> S:
        """Read settings from a YAML file; a missing or broken file gives one clear sentence."""
        return cls.read(load_yaml_mapping(path), path)


def load_yaml_mapping(path: Path) -> dict[str, object]:
    """Return the mapping that a YAML file holds.

    Raises FileNotFoundError when there is no such file and ValueError when it holds no mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f'No settings file at {path}. Check the path.')
    try:
        values = yaml.load(path.read_text(encoding='utf-8'), _UniqueKeys)
    except YAML_FAULTS as error:
        raise ValueError(f'{path} is not valid YAML: {reason(error)}. Correct the file.') from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(
            f'{path} holds a {type(values).__name__}, not `key: value` lines. Correct the file.'
        )
    return {str(key): value for key, value in values.items()}


class _UniqueKeys(yaml.SafeLoader):
    """Refuse a key that stands twice in a mapping; the first would be lost in silence."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                fault = f'{quoted(key.value)} stands there twice'
                raise yaml.MarkedYAMLError(problem=fault, problem_mark=key.start_mark)
            seen.add(key.value)
        return node


def explain(cls: type[BaseModel], error: ValidationError, leave_out: str = '') -> str:
    """Put the faults of a mapping in words, the first few, but for those of type `leave_out`."""
    # A list with a wrong item counts as too short as well.
    lists = {fault['loc'][:-1] for fault in error.errors()}
    faults: list[dict[str, Any]] = [
        dict(fault)
        for fault in error.errors()
        if fault['type'] != leave_out
        and not (fault['type'] == 'too_short' and fault['loc'] in lists)
    ]
    # Of several places of a tuple that are empty the last says how many it has.
    places = {fault['loc'][:-1]: fault for fault in faults if _is_of_a_tuple(fault)}
    faults = [f for f in faults if not _is_of_a_tuple(f) or f is places[f['loc'][:-1]]]
    sentences = [_sentence(cls, fault) for fault in faults[:_MOST_FAULTS]]
    if len(faults) > _MOST_FAULTS:
        sentences.append(f'{counted(len(faults) - _MOST_FAULTS, "more is", "more are")} wrong.')
    return ' '.join(sentences)


def _holds_truth_value(value: object) -> bool:
    """Say whether true or false stands in a value, or in what it lists."""
    if isinstance(value, list | tuple):
        return any(map(_holds_truth_value, value))
    if isinstance(value, Mapping):
        return any(map(_holds_truth_value, value.values()))
    return isinstance(value, bool)


@lru_cache(1024)
def _is_of_numbers(cls: type[BaseModel], field: str) -> bool:
    """Say whether a field takes numbers, by themselves or listed, and nothing true or false."""
    types = _types_in(cls.model_fields[field].annotation)
    return bool(types & {int, float}) and not types & {bool, object, Any}


def _types_in(annotation: object) -> set[object]:
    return {annotation}.union(*map(_types_in, get_args(annotation)))


def closest(name: str, known: list[str]) -> str:
    """Say which known name was probably meant, or list them all."""
    near = nearest(name, known, 0.5)
    return f"Did you mean '{near}'?" if near else f'Known: {", ".join(sorted(known))}.'


def nearest(name: str, known: list[str], likeness: float) -> str | None:
    """Return the known name most like another; None where none is so alike (1: the same)."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=likeness)
    return near[0] if near else None


def _sentence(cls: type[BaseModel], fault: dict[str, Any]) -> str:
    owner = _model_at(cls, [str(part) for part in fault['loc'][:-1]])
    keys = [escaped(part) for part in fault['loc']]
    # Which of several alike it is: events.3 is the fourth.
    listed = any(isinstance(part, int) for part in fault['loc'][:-1])
    where = f'{".".join(keys[:-1])}: ' if listed else ''
    if fault['type'] == 'extra_forbidden':
        known = closest(keys[-1], list(owner.model_fields))
        return f"{where}{owner.__name__} has no '{keys[-1]}'. {known}"
    if _is_of_a_tuple(fault):
        needed = int(fault['loc'][-1]) + 1
        here = '.'.join(keys[:-1])
        return f'{here} = {quoted(fault["input"])}: it needs {needed} values. Give all of them.'
    if fault['type'] == 'too_short' and fault['ctx']['actual_length'] == 0:
        fewest = fault['ctx']['min_length']
        return f'{".".join(keys)} is empty. Give {"one" if fewest == 1 else fewest} at least.'
    if fault['type'] == 'tuple_type':
        return f'{".".join(keys)} = {quoted(fault["input"])}: input should be a list.'
    if fault['type'] == 'missing':
        return f"{where}{owner.__name__} needs '{keys[-1]}'. Add it."
    message = str(fault['msg']).removeprefix('Value error, ').rstrip('.')
    if not keys:
        return f'{message}.'
    # What a model's own validator refuses is its whole mapping, too long to repeat.
    whole = fault['type'] == 'value_error' and isinstance(fault['input'], Mapping | BaseModel)
    value = '' if whole else f' = {quoted(fault["input"])}'
    return f'{".".join(keys)}{value}: {message[:1].lower()}{message[1:]}.'


def _is_of_a_tuple(fault: Mapping[str, Any]) -> bool:
    """Say whether a fault is that a tuple is too short."""
    return fault['type'] == 'missing' and isinstance(fault['loc'][-1], int)


def _model_at(cls: type[BaseModel], keys: list[str]) -> type[BaseModel]:
    for key in keys:
        field = cls.model_fields.get(key)
        cls = (_model_in(field.annotation) if field else None) or cls
    return cls


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model that a field holds, by itself or in a tuple, a mapping or a union."""
    # On Python 3.10 tuple[float, float] passes for a type, until issubclass sees it.
    if get_origin(annotation) is None:
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        return cast('type[BaseModel]', annotation) if is_model else None
    return next(filter(None, map(_model_in, get_args(annotation))), None)
