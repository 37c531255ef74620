"""The documentation of the configuration: its tables are those of the definitions, and its example is valid."""

from __future__ import annotations

import re
from pathlib import Path

from config.sample import catalog
from regiondrift.catalog import Catalog
from regiondrift.config import load
from regiondrift.config.reference import reference, renewed

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_tables_are_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert renewed(text, Catalog()) == text, "run: python -m regiondrift.config.reference docs/configuration.md"


def test_the_example_is_valid(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    file = tmp_path / "example.yaml"
    file.write_text(found[1])
    assert [plan.entry for plan in load(file, Catalog(), {}).plans] == ["orders"]


def test_a_table_says_what_a_key_takes() -> None:
    made = reference(catalog())
    assert "| `members` | list of mappings | **required** | The members. Example: `[{name: a, region: here}]` |" in made
    assert "| `mode` | `sync` or `async` | `async` | How it replicates. |" in made
    assert "| `strict` | true or false | `false` | A switch. |" in made
    assert "| `labels` | text by name |  | Texts by name. |" in made
    assert "### `thing[].members[]`" in made
