"""The recordings that a run of segment has finished, on disk: a killed run goes on with the rest.

They lie in a hidden folder beside output_dir, their sound as the corpus will hold it, and become output_dir when all
are there. Several processes may add to one folder.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from higgs_recipes.audio.io import write_wav
from higgs_recipes.files import atomic_write, check_output_dir, replace_folder
from higgs_recipes.ingest.raw_recordings import RawRecording
from higgs_recipes.ingest.rows import SegmentRow
from higgs_recipes.rejects import Reject, RejectedRow


FORMAT = 2  # of what is kept of a finished recording; one in another format is not found
NOWHERE = {"id": None, "start": None, "end": None}  # of a reject that is a whole recording
_DONE = "finished"


class SegmentStore:
    """What is finished of the corpus that `output_dir` will be.

    Args:
        made_by: all that decides what becomes of a recording; one that was finished under another is not found here.

    Raises:
        InputError: what `check_output_dir` finds.
    """

    def __init__(self, output_dir: str | Path, *, overwrite: bool, made_by: Mapping[str, Any]) -> None:
        check_output_dir(output_dir, overwrite=overwrite)
        self.target = Path(output_dir).expanduser().resolve()
        self.overwrite = overwrite
        self.folder = self.target.with_name(f".{self.target.name}.parts")
        self.made_by = made_by

    def __contains__(self, file: RawRecording) -> bool:
        return self._path(file).is_file()

    def __getitem__(self, file: RawRecording) -> list[SegmentRow | Reject]:
        """The segments of a finished recording, in their order."""
        stored = json.loads(self._path(file).read_text(encoding="utf-8"))
        return [Reject.from_json(each["reject"]) if "reject" in each else each["row"] for each in stored]

    def add(self, file: RawRecording, segments: Iterable[tuple[SegmentRow, Tensor] | Reject]) -> None:
        """Keep the segments of a recording, each a row with its waveform (N,), or a reject.

        A `RejectedRow` while they are made is why the rest of the recording is a reject.
        """
        # Other recipes name the sound of a segment alike: what they have finished would then tell of another sound.
        for path in (self.folder / _DONE).glob(f"{_digest(file.name)}-*.json"):
            path.unlink()
        stored = []
        try:
            for segment in segments:
                if isinstance(segment, Reject):
                    stored.append({"reject": segment.to_json()})
                else:
                    row, waveform = segment
                    write_wav(self.folder / row["file_name"], waveform)
                    stored.append({"row": row})
        except RejectedRow as error:
            stored.append({"reject": error.reject.at(file.columns | NOWHERE).to_json()})
        atomic_write(self._path(file), json.dumps(stored, ensure_ascii=False))  # last: its sound is there

    def clear(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def become_corpus(self, rows: Iterable[SegmentRow]) -> None:
        """Move the folder to `output_dir`, with the sound of these rows and whatever lists were written into it."""
        wanted = {row["file_name"] for row in rows}
        for path in (self.folder / "audio").iterdir():
            if f"audio/{path.name}" not in wanted:  # of a recipe that was changed, or of a kill amid writing
                path.unlink()
        replace_folder(self.folder, self.target, overwrite=self.overwrite)
        shutil.rmtree(self.target / _DONE)

    def _path(self, file: RawRecording) -> Path:
        about = json.dumps([FORMAT, dict(self.made_by), file.name, file.columns, file.digest], sort_keys=True)
        return self.folder / _DONE / f"{_digest(file.name)}-{_digest(about)}.json"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
