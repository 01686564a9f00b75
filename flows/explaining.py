"""What is wrong in a configuration file, in words: file, key, what was found and what was expected."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError


def explain(path: Path, error: ValidationError, model: type[BaseModel], raw: Any) -> str:
    """A line for each mistake in `raw`, which the file holds: file, key, what was found, what is expected."""
    lines, errors = [], error.errors()
    for each in errors:
        if each["type"] == "too_short" and any(_within(other["loc"], each["loc"]) for other in errors):
            continue  # parts that are wrong were left out of the count
        place = [str(path), ".".join(_named(each["loc"], raw))]
        said = each["msg"].removeprefix("Value error, ")
        found = "" if isinstance(each["input"], dict) else f"; found {_short(each['input'])}"
        if each["type"] == "missing":
            said, found = "found nothing, expected this key", ""
        elif each["type"] == "extra_forbidden":
            known = ", ".join(_keys(each["loc"][:-1], model))
            said, found = f"found this key, expected one of {known}", ""
        elif each["type"] == "invalid_key":
            said, found = f"found the key {each['input']!r}, expected text; on, off, yes, no need quotes", ""
        lines.append(": ".join(part for part in (*place, said + found) if part))
    return "\n".join(lines)


def _named(place: Sequence[int | str], raw: Any) -> list[str]:
    """The parts of a key, a participant by its name where it has one, else by its number."""
    parts = [str(part) for part in place]
    with suppress(LookupError, TypeError):
        if parts[0] == "participants" and isinstance(raw["participants"][place[1]]["name"], str):
            parts[1] = raw["participants"][place[1]]["name"]
    return parts


def _within(place: Sequence[int | str], whole: Sequence[int | str]) -> bool:
    """Whether a place of the file is a part of the one `whole`."""
    return len(place) > len(whole) and place[: len(whole)] == whole


def _keys(place: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The keys that are known at a place of the file, by the schema of the whole."""
    schema = model.model_json_schema()
    here = [schema]
    for part in place:
        below = [each.get("properties", {}).get(part) or each.get("items") for each in here]
        below += [each for each in here if part == each.get("properties", {}).get("kind", {}).get("const")]
        here = [choice for each in below if each for choice in _choices(each, schema["$defs"])]
    return sorted({key for each in here for key in each.get("properties", {})})


def _choices(schema: dict[str, Any], known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a part of a schema may be, references followed."""
    schema = known[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    some = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [choice for each in some for choice in _choices(each, known)] or [schema]


def _short(value: Any) -> str:
    text = re.sub(r"//\S*@", "//***@", repr(value))  # an address may have a password
    return text if len(text) <= 60 else text[:57] + "..."
