"""Read recordings in tar files in the format of WebDataset, without unpacking them."""

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from higgs_recipes.corpus.sources.lines import json_object
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import RejectCode, RejectedRow


class WebDatasetTable(Sequence):
    """The rows of tar files: members whose names differ only in the extension are one row.

    A row has `__key__` (the name without extension), the fields of the .json as `json.<field>`, and every other member
    under its extension as {"path", "bytes"}: `EN_1.json` and `EN_1.mp3` give `__key__`, `json.text` ..., `mp3`. Bytes
    are read with the row.

    Raises:
        InputError: a file is not a tar file, or truncated. A row whose .json is not a JSON object, or with two members
            of one extension, raises when it is read.
    """

    streamed = False
    features: Mapping[str, Any] = {}

    def __init__(self, paths: Sequence[Path]) -> None:
        self._rows: list[tuple[Path, dict[str, Any], dict[str, tuple[str, int, int]]]] = []
        self._broken: dict[tuple[Path, str], str] = {}  # (file, key) to the reason why a row cannot be read
        for path in paths:
            self._index(path)
        names = ({"__key__": None} | fields | members for _, fields, members in self._rows)
        self.column_names = list(dict.fromkeys(name for row in names for name in row))

    def __len__(self) -> int:
        return len(self._rows)

    def column(self, name: str) -> list[Any]:
        """A field of the .json in every row, or `__key__`; None for rows that do not have it."""
        return [fields.get(name) for _, fields, _ in self._rows]

    def broken(self) -> list[int]:
        """Indexes of rows that raise when they are read, whose fields are unknown."""
        return [i for i, (path, fields, _) in enumerate(self._rows) if (path, fields["__key__"]) in self._broken]

    def select(self, indices: Sequence[int]) -> "WebDatasetTable":
        """A table of these rows."""
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
        """Do nothing: rows are read as a whole."""

    def close(self) -> None:
        """Do nothing: the table has no files of its own."""

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
                        self._broken[path, key] = f"{where} occurs twice"
                    elif ending == "json":
                        try:
                            stored = json_object(tar.extractfile(member).read())
                            fields |= {f"json.{field}": value for field, value in stored.items()}
                        except RejectedRow as error:  # rejects this row only
                            self._broken[path, key] = f"{where}: {error}"
                    else:
                        members[ending] = (member.name, member.offset_data, member.size)
        except tarfile.TarError as error:
            raise InputError(f"{path.name} is not a complete tar file ({error}); download it again") from error
        self._rows += [(path, *row) for row in rows.values()]
