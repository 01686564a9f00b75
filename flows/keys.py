"""The keys of a YAML file, each given once, and text that can name a file or be told."""

import re
from pathlib import Path
from typing import Any

import yaml

from federation.errors import BadInput

MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """PyYAML's, which takes the last of two equal keys, and what no file system or server does."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if key.tag != MERGE]
        for place, key in enumerate(keys):
            if any(key.value == other.value for other in keys[:place]):
                raise yaml.MarkedYAMLError(
                    None, None, f"found {key.value} twice, expected it once", key.start_mark
                )
        return node

    def compose_scalar_node(self, anchor: str | None) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if re.search("[\0\ud800-\udfff]", node.value):
            told = r"found \0 or half a surrogate pair, expected text"
            raise yaml.MarkedYAMLError(None, None, told, node.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, OverflowError) as error:  # of 2024-02-30, or !!int
            why = f" ({error})" if isinstance(error, ValueError) else ""
            told = f"found {str(node.value)[:60]!r}, expected {node.tag.rpartition(':')[2]}{why}"
            raise yaml.MarkedYAMLError(None, None, told, node.start_mark) from None


def read_keys(path: Path) -> dict[str, Any]:
    """What the file at `path` holds, without keys that begin with `x-`; `BadInput` where it is no YAML."""
    try:
        raw = yaml.load(path.read_bytes(), _Loader)
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be read ({error.strerror}); expected a consortium.yaml, as `chorus init` writes"
        ) from None
    except RecursionError:
        raise BadInput(f"{path}: found lists within lists without end, expected keys such as name") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two of "\UFFFFFFFF"
        raise BadInput(f"{path}: is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: found {type(raw).__name__}, expected keys such as name and participants")
    return {key: value for key, value in raw.items() if not str(key).startswith("x-")}
