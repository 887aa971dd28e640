"""TOML files into frozen models: an unknown key is an error that names the nearest known key.

Rules: every model forbids unknown keys, every error is one line with the file and the key, and secrets
never sit in these files (only paths to them do).
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fedmedlora_core.errors import ConfigError

ModelT = TypeVar("ModelT", bound=BaseModel)


class Section(BaseModel):
    """A table of a configuration file: frozen, closed, without silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def load_toml(path: Path, model: type[ModelT]) -> ModelT:
    """Read a TOML file into `model`.

    Args:
        path: The file.
        model: A closed pydantic model.

    Returns:
        The validated model.

    Raises:
        ConfigError: The file is missing, is not TOML, has an unknown key or a bad value (the operator's).
    """
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror or type(exc).__name__})") from None
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: is not TOML: {exc}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, tables in tables without end
        raise ConfigError(f"{path}: is not TOML that this program reads") from None
    return parse_table(table, model, name=str(path))


def parse_table(table: dict[str, Any], model: type[ModelT], *, name: str) -> ModelT:
    """Validate a parsed table against `model` with a one-line error (see `load_toml`)."""
    try:
        # JSON-ish input: lists become tuples where the model says so, everything else stays strict.
        return model.model_validate(table, strict=False)
    except ValidationError as exc:
        raise ConfigError(f"{name}: {_sentence(exc, model)}") from None


def _sentence(exc: ValidationError, model: type[BaseModel]) -> str:
    """Say the first problem of a validation error in one line."""
    errors = exc.errors(include_url=False, include_input=False)
    unknown = [e for e in errors if e["type"] == "extra_forbidden"]
    first = (unknown or errors)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        reason = str(first["msg"]).removeprefix("Value error, ")
        return f"{key}: {reason}" if key else reason
    known = _keys_at(model, first["loc"][:-1])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown key '{key}'{hint}"


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Name the known keys of the table at `loc` inside `model`."""
    current: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        if field is None:
            return []
        current = _model_in(field.annotation)
        if current is None:
            return []
    return list(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the model class inside an annotation such as `tuple[Member, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
