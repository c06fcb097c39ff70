"""Check that a run does not replace its own source."""

import os
from pathlib import Path

from higgs_recipes.errors import InputError


def check_source(source: str | Path, output_dir: str | Path) -> None:
    """Refuse an output folder that contains a source: overwrite_output_dir would delete the source.

    Raises:
        InputError: `source` is `output_dir` or in it.
    """
    real_source, real_output = (Path(os.path.realpath(os.path.expanduser(path))) for path in (source, output_dir))
    if real_source.is_relative_to(real_output):
        raise InputError(f"output_dir {output_dir} contains the source {source}: choose another one")
