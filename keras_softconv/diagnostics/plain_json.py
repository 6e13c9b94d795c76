"""Reports as JSON that every parser takes."""

import json
from math import isfinite
from typing import Any


def json_of(data: Any, indent: int | None) -> str:
    """The data as JSON, which has no numbers that are not finite: they become null."""
    return json.dumps(_finite(data), indent=indent, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not isfinite(data):
        return None
    return data
