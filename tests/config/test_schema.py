"""The schema for editors: made of the same definitions, and as strict."""

from __future__ import annotations

import json
import re
from typing import Any

from config.sample import Point, catalog
from regiondrift.config import schema


def objects(node: Any) -> list[dict[str, Any]]:
    """Every object schema within `node` that names its properties."""
    found = [node] if isinstance(node, dict) and "properties" in node else []
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return found + [o for child in children for o in objects(child)]


def test_it_is_json_and_says_which_draft_it_follows() -> None:
    made = json.loads(json.dumps(schema(catalog())))
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["required"] == ["version", "regions"]
    assert list(made["properties"]) == ["version", "regions", "objectives", "state_dir", "thing"]


def test_no_object_takes_unknown_keys() -> None:
    found = objects(schema(catalog()))
    assert len(found) == 4
    assert all(o["additionalProperties"] is False for o in found)


def test_every_key_of_an_entry_is_described() -> None:
    items = schema(catalog())["properties"]["thing"]["items"]
    assert items["required"] == ["name", "members"]
    assert all(p["description"] for p in items["properties"].values())
    assert items["properties"]["retries"]["default"] == 3
    assert items["properties"]["mode"]["enum"] == ["sync", "async"]
    assert items["properties"]["labels"]["anyOf"][0]["additionalProperties"] == {
        "type": ["string", "number", "boolean"]
    }
    assert items["properties"]["members"]["examples"] == [[{"name": "a", "region": "here"}]]


def test_durations_are_patterns() -> None:
    pattern = schema(catalog())["properties"]["thing"]["items"]["properties"]["interval"]["anyOf"][0]["pattern"]
    for good in ("30s", "1h30m", "500ms", "${EVERY}"):
        assert re.search(pattern, good)
    for bad in ("", "30", "5 parsecs", "-5s", "s"):
        assert not re.search(pattern, bad)


def test_a_collector_that_is_not_installed_leaves_the_rest_standing() -> None:
    made = schema(catalog(other=Point(ImportError("no module named other"))))
    assert made["properties"]["other"]["type"] == "array"
    assert "no module named other" in made["properties"]["other"]["description"]
