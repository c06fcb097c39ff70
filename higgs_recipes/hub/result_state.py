"""state.json in the folder of a result: which command made it, and whether it is still to be pushed.

A run that is killed while it pushes has a complete result on disk. The same command then only pushes it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from higgs_recipes.files import atomic_write
from higgs_recipes.hub.result_files import STATE
from higgs_recipes.records import Fields, read_record


@dataclass(frozen=True)
class ResultState:
    """The state of the result that a command makes.

    Attributes:
        folder: folder of the result.
        script: name of the script.
        recipe: fields of its config; those of the push do not count.
        repo_id: repository to push to; None: no push.
    """

    folder: Path
    script: str
    recipe: Mapping[str, Any]
    repo_id: str | None

    def write(self, folder: Path | None = None) -> None:
        """Record in the folder (or in a folder that will be renamed to it) that this command makes it."""
        state = {"script": self.script, "recipe": self._recipe_hash(), "push_to": self.repo_id, "pushed": None}
        atomic_write((folder or self.folder) / STATE, json.dumps(state, indent=1) + "\n")

    def is_same_run(self) -> bool:
        """Whether this command has made what is in the folder."""
        state = read_state(self.folder)
        return state is not None and (state["script"], state["recipe"]) == (self.script, self._recipe_hash())

    def is_push_pending(self) -> bool:
        """Whether this command has made the result in the folder, to be pushed, and has not pushed it.

        Of several processes the main one pushes and records it; one that asks after that must get the same answer.
        """
        if self.repo_id is None or not self.is_same_run():
            return False
        state, is_main = read_state(self.folder), os.environ.get("RANK", "0") == "0"
        return state["push_to"] is not None and (state["pushed"] is None or not is_main)

    def _recipe_hash(self) -> str:
        unrelated = ("overwrite_output_dir", "resume_from_checkpoint", "push_to_hub")
        fields = {
            name: value for name, value in self.recipe.items() if name not in unrelated and not name.startswith("hub_")
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_state(folder: Path) -> Fields | None:
    """Read state.json; None if the folder has none."""
    path = folder / STATE
    return read_record(path) if os.path.isfile(path) else None  # accepts names that are too long for a file


def record_push(folder: Path, *, repo_id: str, url: str) -> None:
    """Record that the result in a folder has been pushed."""
    state = read_state(folder)
    if state is not None:
        atomic_write(folder / STATE, json.dumps(dict(state) | {"push_to": repo_id, "pushed": url}, indent=1) + "\n")
