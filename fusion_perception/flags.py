"""Read a verb's settings from its flags and a YAML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fusion_perception.sensing.home import from_home
from fusion_perception.sensing.settings import Settings, explain, load_yaml_mapping

# What a run keeps of its settings, in its folder.
KEPT = 'config.yaml'


class _FlagError(Exception):
    """Carry a fault of the settings past tyro."""


def read_settings(
    cls: type[Settings], args: Sequence[str], prog: str, description: str
) -> Settings:
    """Read settings from flags; a `--config` YAML, where the settings know one, gives defaults.

    For a run that goes on (`--resume`) that is the one it keeps in its folder (`--out`), unless
    another is named. Raises ValueError for a value out of range, FileNotFoundError for a YAML file
    or a run that is not there and SystemExit(2) for flags that do not parse.
    """
    import tyro

    _refuse_repeated(args, prog)

    class Checked(cls):  # type: ignore[valid-type, misc]
        # tyro would print pydantic's words; a fault that it does not catch arrives in ours.
        def __init__(self, **values: object) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise _FlagError(explain(cls, error)) from None

    default = None
    if 'config' in cls.model_fields and (path := _config_path(cls, args)):
        required = {name: tyro.MISSING for name, f in cls.model_fields.items() if f.is_required()}
        default = Checked.model_construct(**{**required, **defaults_from_yaml(cls, path)})
    try:
        parsed = tyro.cli(
            Checked, args=args, prog=prog, description=f'{description}.', default=default
        )
    except _FlagError as fault:
        raise ValueError(f'{prog}: {fault}') from None
    except ValidationError as error:
        # A fault of nested settings, whose flags stand beside the others'.
        raise ValueError(f'{prog}: {explain(cls, error)}') from None
    return cls.model_construct(**{name: getattr(parsed, name) for name in cls.model_fields})


def _refuse_repeated(args: Sequence[str], prog: str) -> None:
    """Raise ValueError for a flag that is given twice: the last would count, in silence."""
    flags = [arg.partition('=')[0].replace('_', '-') for arg in args if arg.startswith('--')]
    for flag, count in Counter(flags).items():
        if count > 1 and flag != '--':
            raise ValueError(
                f'{prog}: {flag} is given {count} times. Give it once; what takes several values '
                f'takes them in a row ({flag} A B).'
            )


def defaults_from_yaml(cls: type[Settings], path: Path) -> dict[str, object]:
    """Return the fields that a YAML file sets, validated, as the fields' own types."""
    values = load_yaml_mapping(path)
    try:
        cls.model_validate(values)
    except ValidationError as error:
        # What is required may still come as a flag.
        if faults := explain(cls, error, leave_out='missing'):
            raise ValueError(f'{path}: {faults}') from None
    return {
        name: _resolved(
            TypeAdapter[object](cls.model_fields[name].annotation or object).validate_python(value)
        )
        for name, value in values.items()
    }


def _resolved(value: object) -> object:
    """Return a path with ~ resolved, as a shell does for flags; other values as they are."""
    return from_home(value) if isinstance(value, Path) else value


def _config_path(cls: type[Settings], args: Sequence[str]) -> Path | None:
    if (given := _value_of('--config', args)) is not None:
        return Path(given)
    out = _value_of('--out', args)
    if out is None or 'resume' not in cls.model_fields or '--resume' not in args:
        return None
    kept = Path(out) / KEPT
    if kept.is_file():
        return kept
    flags = [f'--{name}' for name, field in cls.model_fields.items() if field.is_required()]
    lacking = [flag for flag in flags if _value_of(flag, args) is None]
    if lacking and not {'-h', '--help'} & set(args):
        raise FileNotFoundError(
            f'No run to resume: there is no {kept}. Start it without --resume, or, where only '
            f'that file is gone, give {" and ".join(lacking)} and all else that it was begun with.'
        )
    return None


def _value_of(flag: str, args: Sequence[str]) -> str | None:
    for position, arg in enumerate(args):
        if arg == flag and position + 1 < len(args):
            return args[position + 1]
        if arg.startswith(f'{flag}='):
            return arg.removeprefix(f'{flag}=')
    return None
