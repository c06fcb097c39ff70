"""The finished recordings of a segmentation run on disk, so that a killed run continues with the rest.

They are stored in a hidden folder next to output_dir, with the audio of the corpus. The folder becomes output_dir when
it is complete. Several processes may add to it.
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from higgs_recipes.audio.io import write_wav
from higgs_recipes.files import atomic_write, explain_write_errors, make_folder, real_path
from higgs_recipes.ingest.raw_recordings import RawRecording
from higgs_recipes.ingest.rows import SegmentRow
from higgs_recipes.output_folder import is_result, remove_partial_files, replace_folder, write_file_list
from higgs_recipes.rejects import Reject, RejectedRow


FORMAT = 2  # of the stored segments; recordings stored in another format are segmented again
WHOLE_RECORDING = {"id": None, "start": None, "end": None}  # columns of the reject of a whole recording
KIND = "segment"
_FINISHED = "finished"
_FINISHED_FILE = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.json")


class SegmentStore:
    """The finished recordings of the corpus in `output_dir`.

    Args:
        made_by: everything that the segments depend on; recordings finished with other values are segmented again.

    Raises:
        InputError: a folder next to `output_dir` cannot be written.
    """

    def __init__(self, output_dir: str | Path, *, overwrite: bool, made_by: Mapping[str, Any]) -> None:
        self.target = real_path(output_dir)
        self.overwrite = overwrite
        self.folder = self.target.with_name(f".{self.target.name}.parts")
        self.made_by = made_by
        make_folder(self.folder / _FINISHED)  # before hours of work

    def __contains__(self, file: RawRecording) -> bool:
        return self._path(file).is_file()

    def __getitem__(self, file: RawRecording) -> list[SegmentRow | Reject]:
        """The segments of a finished recording in order."""
        stored = json.loads(self._path(file).read_text(encoding="utf-8"))
        return [Reject.from_json(entry["reject"]) if "reject" in entry else entry["row"] for entry in stored]

    def add(self, file: RawRecording, segments: Iterable[tuple[SegmentRow, Tensor] | Reject]) -> None:
        """Store the segments of a recording: rows with their waveforms (N,), or rejects.

        A `RejectedRow` raised by the iterator becomes the reject of the rest of the recording.
        """
        # Other recipes use the same file names for audio: segments that they stored would refer to the new audio.
        for path in (self.folder / _FINISHED).glob(f"{_digest(file.name)}-*.json"):
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
            stored.append({"reject": error.reject.at(file.columns | WHOLE_RECORDING).to_json()})
        atomic_write(self._path(file), json.dumps(stored, ensure_ascii=False))  # last, when its audio is complete

    def clear(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def become_corpus(self, rows: Iterable[SegmentRow]) -> None:
        """Move the folder, which contains the lists already, to `output_dir`; keep only the audio of `rows`."""
        used = {row["file_name"] for row in rows}
        with explain_write_errors(self.folder.parent):
            for path in (self.folder / "audio").iterdir():
                if f"audio/{path.name}" not in used:  # from a changed recipe, or incomplete after a kill
                    path.unlink()
            remove_partial_files(self.folder)
            write_file_list(self.folder, kind=KIND, without={_FINISHED})
            replace_folder(self.folder, self.target, kind=KIND, overwrite=self.overwrite)
            remove_finished(self.target)

    def _path(self, file: RawRecording) -> Path:
        key = json.dumps([FORMAT, dict(self.made_by), file.name, file.columns, file.digest], sort_keys=True)
        return self.folder / _FINISHED / f"{_digest(file.name)}-{_digest(key)}.json"


def remove_finished(corpus: Path) -> None:
    """Remove the list of finished recordings from a complete corpus: a run may be killed before it does."""
    folder = corpus / _FINISHED
    if not folder.is_dir() or folder.is_symlink() or not is_result(corpus, kind=KIND):
        return
    with explain_write_errors(corpus):
        for path in list(folder.iterdir()):
            if _FINISHED_FILE.fullmatch(path.name) or path.suffix == ".partial":
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
