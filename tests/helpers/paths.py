"""Where the repository and the data of the tests are."""

from pathlib import Path


ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
