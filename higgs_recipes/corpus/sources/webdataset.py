"""Recordings in tar files as WebDataset lays them out, read in place: nothing is unpacked."""

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from higgs_recipes.corpus.sources.lines import json_object
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import RejectCode, RejectedRow


class WebDatasetTable(Sequence):
    """The rows of tar files: members whose names differ in the ending only are one row.

    A row has `__key__` (the name without its ending), the fields of the .json as `json.<field>`, and every other
    member under its ending as {"path", "bytes"}: `EN_1.json` and `EN_1.mp3` give `__key__`, `json.text` ..., `mp3`.
    The bytes are read when the row is.

    Raises:
        InputError: a file is no tar or broken off. A row whose .json is no JSON object, or that has two members of one
            ending, raises when it is asked for.
    """

    streamed = False
    features: Mapping[str, Any] = {}

    def __init__(self, paths: Sequence[Path]) -> None:
        self._rows: list[tuple[Path, dict[str, Any], dict[str, tuple[str, int, int]]]] = []
        self._broken: dict[tuple[Path, str], str] = {}  # by file and key: why a row cannot be read
        for path in paths:
            self._index(path)
        names = ({"__key__": None} | fields | members for _, fields, members in self._rows)
        self.column_names = list(dict.fromkeys(name for row in names for name in row))

    def __len__(self) -> int:
        return len(self._rows)

    def column(self, name: str) -> list[Any]:
        """A field of the .json in every row, nothing else read; None where the row has it not."""
        return [fields.get(name) for _, fields, _ in self._rows]

    def broken(self) -> list[int]:
        """Indexes of the rows that raise when they are asked for: what their fields are is not known."""
        return [i for i, (path, fields, _) in enumerate(self._rows) if (path, fields["__key__"]) in self._broken]

    def select(self, indices: Sequence[int]) -> "WebDatasetTable":
        """Only these rows."""
        chosen = WebDatasetTable([])
        chosen._rows, chosen.column_names = [self._rows[index] for index in indices], self.column_names
        chosen._broken = self._broken
        return chosen

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, fields, members = self._rows[index]
        if broken := self._broken.get((path, fields["__key__"])):
            raise RejectedRow(RejectCode.BROKEN_TAR_ROW, detail=broken)
        row = dict(fields)
        with path.open("rb") as file:
            for ending, (name, offset, size) in members.items():
                file.seek(offset)
                row[ending] = {"path": name, "bytes": file.read(size)}
        return row

    def use_columns(self, names: Sequence[str]) -> None:
        """Rows are read whole: their members are stored side by side."""

    def close(self) -> None:
        """Nothing on the disk is the table's own."""

    def _index(self, path: Path) -> None:
        rows: dict[str, tuple[dict[str, Any], dict[str, tuple[str, int, int]]]] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in filter(tarfile.TarInfo.isfile, tar):
                    name = PurePosixPath(member.name)
                    stem, _, ending = name.name.partition(".")
                    key = str(name.with_name(stem))
                    fields, members = rows.setdefault(key, ({"__key__": key}, {}))
                    where = f"{path.name}: {member.name}"
                    if ending in members or (ending == "json" and len(fields) > 1):
                        self._broken[path, key] = f"{where} stands in it twice"
                    elif ending == "json":
                        try:
                            found = json_object(tar.extractfile(member).read())
                            fields |= {f"json.{field}": value for field, value in found.items()}
                        except RejectedRow as error:  # one row of a file of many
                            self._broken[path, key] = f"{where}: {error}"
                    else:
                        members[ending] = (member.name, member.offset_data, member.size)
        except tarfile.TarError as error:
            raise InputError(f"{path.name} is no whole tar file: {error}; fetch it again") from error
        self._rows += [(path, *row) for row in rows.values()]
