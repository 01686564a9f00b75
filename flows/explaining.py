"""What is wrong in a configuration file, in words: file, key, what was found and what was expected."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_QUOTED = "on, off, yes, no need quotes"


def explain(path: Path, error: ValidationError, model: type[BaseModel], raw: Any) -> str:
    """A line for each mistake in `raw`, which the file holds: file, key, what was found, what is expected."""
    lines, errors = [], error.errors()
    for each in errors:
        if each["type"] == "too_short" and any(_within(other["loc"], each["loc"]) for other in errors):
            continue  # parts that are wrong were left out of the count
        parts = _named(each["loc"], raw) + ["kind"] * each["type"].startswith("union_tag")
        place = [str(path), ".".join(parts)]
        lines.append(": ".join(part for part in (*place, _said(each, model)) if part))
    return "\n".join(lines)


def _said(wrong: "ErrorDetails", model: type[BaseModel]) -> str:
    """What was found and what is expected, in the words of YAML where pydantic has those of Python."""
    place, found = wrong["loc"], _short(wrong["input"])
    match wrong["type"]:
        case "missing":
            return "found nothing, expected this key"
        case "union_tag_not_found":
            return f"found nothing, expected one of {', '.join(_kinds(place, model))}"
        case "extra_forbidden":
            return f"found this key, expected one of {', '.join(_keys(place[:-1], model))}"
        case "invalid_key":
            return f"found the key {found}, expected text; {_QUOTED}"
        case "string_type" if isinstance(wrong["input"], bool):
            return f"found {found}, expected text; {_QUOTED}"
        case "union_tag_invalid":
            return "found '{tag}', expected one of {expected_tags}".format_map(wrong["ctx"])
        case "tuple_type":
            return f"found {found}, expected a list"
        case "path_type":
            return f"found {found}, expected a path"
        case "model_type" | "model_attributes_type":
            return f"found {found}, expected some of the keys {', '.join(_keys(place, model))}"
    said = wrong["msg"].removeprefix("Value error, ")
    return said if isinstance(wrong["input"], dict) else f"{said}; found {found}"


def _named(place: Sequence[int | str], raw: Any) -> list[str]:
    """The parts of a key as the file has them, a participant by its name where it has one."""
    parts, here = list[str](), raw
    for part in place:
        if isinstance(here, dict) and part not in here and part == here.get("kind"):
            continue  # which of several models it is, not a key
        name = str(part)
        with suppress(LookupError, TypeError):
            here = here[part]
            name = here["name"] if isinstance(part, int) and isinstance(here["name"], str) else name
        parts.append(name)
    return parts


def _within(place: Sequence[int | str], whole: Sequence[int | str]) -> bool:
    """Whether a place of the file is a part of the one `whole`."""
    return len(place) > len(whole) and place[: len(whole)] == whole


def _keys(place: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The keys that are known at a place of the file."""
    return sorted({key for each in _known(place, model) for key in each.get("properties", {})})


def _kinds(place: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The kinds that what stands at a place of the file may be of."""
    return [each["properties"]["kind"]["const"] for each in _known(place, model)]


def _known(place: Sequence[int | str], model: type[BaseModel]) -> list[dict[str, Any]]:
    """What may stand at a place of the file, by the schema of the whole."""
    schema = model.model_json_schema()
    here = [schema]
    for part in place:
        below = [each.get("properties", {}).get(part) or each.get("items") for each in here]
        below += [each for each in here if part == each.get("properties", {}).get("kind", {}).get("const")]
        here = [choice for each in below if each for choice in _choices(each, schema["$defs"])]
    return here


def _choices(schema: dict[str, Any], known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a part of a schema may be, references followed."""
    schema = known[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    some = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [choice for each in some for choice in _choices(each, known)] or [schema]


def _short(value: Any) -> str:
    text = re.sub(r"//\S*@", "//***@", repr(value))  # an address may have a password
    return text if len(text) <= 60 else text[:57] + "..."
