"""The smallest JSON value that a schema allows, for answers that must have a shape and no sense.

In: a JSON schema as a request brings it. Out: a value, or the first type in it that is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
DEEPEST = 20


def wrong_type(schema: Any, depth: int = 0) -> str | None:
    """The first `type` that JSON Schema does not know, or None.

    Examples:
        >>> wrong_type({"type": "object", "properties": {"a": {"type": "nonsense"}}})
        'nonsense'
    """
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return None
    named = schema.get("type")
    for name in named if isinstance(named, list) else [named]:
        if name is not None and name not in TYPES:
            return str(name)
    inner = [schema.get("items"), *_values(schema.get("properties")), *_values(schema.get("$defs"))]
    return next((found for part in inner if (found := wrong_type(part, depth + 1)) is not None), None)


def sample(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """A value of that schema; an object has all its properties.

    Examples:
        >>> sample({"type": "object", "properties": {"city": {"type": "string", "maxLength": 2}}})
        {'city': 'te'}
        >>> sample({"type": "array", "items": {"enum": ["b", "c"]}, "minItems": 2})
        ['b', 'b']
    """
    root = schema if root is None else root
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return None
    if isinstance(schema.get("$ref"), str):
        return sample(_at(root, schema["$ref"]), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    for name in ("enum", "anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(name), list) and schema[name]:
            first = schema[name][0]
            return first if name == "enum" else sample(first, root, depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or (kind is None and "properties" in schema):
        properties = schema.get("properties")
        return {
            name: sample(part, root, depth + 1)
            for name, part in (properties.items() if isinstance(properties, Mapping) else ())
        }
    if kind == "array":
        return [sample(schema.get("items"), root, depth + 1)] * max(1, _whole(schema.get("minItems"), 1))
    if kind == "string":
        return "text".ljust(_whole(schema.get("minLength"), 0), "x")[: _whole(schema.get("maxLength"), 1_000_000)]
    if kind in ("integer", "number"):
        return _whole(schema.get("minimum"), 1)
    return True if kind == "boolean" else None


def _at(root: Any, ref: str) -> Any:
    for step in ref.removeprefix("#/").split("/"):
        root = root.get(step) if isinstance(root, Mapping) else None
    return root


def _values(mapping: Any) -> list[Any]:
    return list(mapping.values()) if isinstance(mapping, Mapping) else []


def _whole(value: Any, instead: int) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else instead
