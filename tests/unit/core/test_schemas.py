from pathlib import Path

from core.schemas import schemas

FOLDER = Path(__file__).parents[3] / "docs/schemas"


def test_exported_schemas_are_those_of_the_code() -> None:
    exported = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert exported == schemas(), "run `python -m core.schemas`"
