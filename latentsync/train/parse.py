"""From YAML and `key=value` to the dataclasses of `config.py`, and back."""

import difflib
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

PRESETS = Path(__file__).parents[1] / "presets"
Config = TypeVar("Config")


def presets() -> list[str]:
    """Names of the configurations that come with the package, such as "stage1" and "embedded/unet"."""
    return sorted(path.relative_to(PRESETS).with_suffix("").as_posix() for path in PRESETS.rglob("*.yaml"))


def load_config(kind: type[Config], source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file, or the preset of that name, with some values replaced.

    Args:
        kind: one of the dataclasses of `config.py`.
        overrides: `data.resolution=512`: keys with dots, values in YAML.

    Raises:
        FileNotFoundError: neither a preset nor a file.
        ValueError: not YAML, or an unknown key (says which there are), a value of the wrong type or out of range.
    """
    path = PRESETS / f"{source}.yaml" if str(source) in presets() else Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {source}, nor a preset of that name: give one of {presets()}")
    values = parse_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}: give keys and values")
    for override in overrides:
        _replace(values, override)
    return build(kind, values)


def parse_yaml(text: str, source: str) -> Any:
    """The plain values in `text`; a ValueError that names `source` where it is not YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML ({' '.join(str(error).split())})") from None


def to_yaml(config: Any) -> str:
    """Every value of a configuration; `load_config` makes the same configuration of it."""
    return yaml.safe_dump(plain(asdict(config)), sort_keys=False, default_flow_style=None, width=120)


def build(kind: type[Config], values: Mapping[str, Any], path: str = "") -> Config:
    """The dataclass `kind` from nested dicts, checked all the way down; `path` is where it stands, for messages.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type, or values that do not fit each other.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{path or 'the configuration'} is {values!r}: give keys and values: {_names(kind)}")
    types_of = get_type_hints(kind)
    for name in values:
        if name not in _names(kind):
            raise ValueError(_unknown(str(name), path, _names(kind)))
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if lacking := [_dotted(path, name) for name in required if name not in values]:
        raise ValueError(f"the configuration lacks {', '.join(lacking)}: add them")
    chosen = {name: _coerce(types_of[name], value, _dotted(path, name)) for name, value in values.items()}
    try:
        return kind(**chosen)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from None


def _coerce(kind: Any, value: Any, path: str) -> Any:
    """`value` as `kind`, which is a dataclass, Literal, union, tuple, bool, int, float or str."""
    if is_dataclass(kind):
        return build(kind, value, path)
    origin, options = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        options = [option for option in options if option is not type(None)]
        fitting = options[-1] if isinstance(value, list) else options[0]
        return _coerce(fitting, value, path)
    if origin is tuple:
        return _tuple(options, value, path)
    if origin is Literal and value in options and type(value) is str:
        return value
    if kind is float:
        value = _number(value)
    if origin is None and type(value) is kind:  # not isinstance: a bool is no number here
        return value
    # YAML reads a bare `no` as false, and so a precision.
    if origin is Literal and value is False and "no" in options:
        return "no"
    wanted = f"one of {', '.join(options)}" if origin is Literal else _WANTED[kind]
    raise ValueError(f"{path} is {value!r}: give {wanted}")


_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _tuple(options: tuple, value: Any, path: str) -> tuple:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{path} is {value!r}: give a list, [a, b, ...]")
    if options[-1] is ...:
        options = (options[0],) * len(value)
    if len(options) != len(value):
        raise ValueError(f"{path} is {value!r}: give {len(options)} values")
    return tuple(_coerce(options[i], entry, f"{path}[{i}]") for i, entry in enumerate(value))


def _number(value: Any) -> Any:
    """A float where `value` means one; YAML reads 1e-5, without a dot, as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _replace(values: dict, override: str) -> None:
    """Put `a.b=value` into nested dicts."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"{override!r} is no replacement: give key=value, such as data.resolution=512")
    *groups, name = key.split(".")
    for group in groups:
        if values.get(group) is None:
            values[group] = {}
        values = values[group]
        if not isinstance(values, dict):
            raise ValueError(f"{override!r}: {group} is {values!r}, which has no keys: replace it as a whole")
    values[name] = parse_yaml(text, override)


def _unknown(name: str, path: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" (did you mean {_dotted(path, close[0])}?)" if close else ""
    return f"unknown key {_dotted(path, name)}{meant}: {path or 'the top level'} has {', '.join(known)}"


def _names(kind: Any) -> list[str]:
    return [f.name for f in fields(kind)]


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def plain(value: Any) -> Any:
    """`value` as YAML would give it back: tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value
