"""Folders of long recordings without transcripts -> a corpus folder that encode takes as it is.

The recordings are found (raw_files) and shared out to the processes; each is cut, measured and transcribed (segments)
and kept as soon as it is finished (parts); then the main process writes the lists and the page to hear it all and
strike rows (striking). Nothing is dropped without a line in rejects.jsonl: its file, its seconds, what was measured.
"""

import json
import logging
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from higgs_recipes import __version__
from higgs_recipes.audio.asr import load_asr_model
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.errors import InputError
from higgs_recipes.files import check_output_dir
from higgs_recipes.ingest.curation import write_lists
from higgs_recipes.ingest.raw_recordings import RawRecording, find_raw_recordings, share_out
from higgs_recipes.ingest.rows import SegmentRow
from higgs_recipes.ingest.segment_store import NOWHERE, SegmentStore
from higgs_recipes.ingest.segmenter import Segmenter
from higgs_recipes.provenance import git_commit, library_versions
from higgs_recipes.rejects import Reject, count_rejects


logger = logging.getLogger(__name__)

# The shares are as equal as whole recordings allow: the first process to be done may wait for hours.
_PATIENCE = timedelta(days=30)
# What says where the corpus comes from and goes to; all other knobs decide what becomes of a recording.
_PLACES = {"sources", "speaker_per_file", "strike", "output_dir", "overwrite_output_dir"}


def segment_recordings(config: SegmentConfig) -> dict[str, Any]:
    """Write the corpus; returns what segment.json says: recordings, rows, seconds, rejects by reason, recipe ...

    A killed run that is started again with the same recipe goes on with the recordings that it has not finished.
    Started on several processes, each takes its share of the recordings; the corpus is the same.

    Raises:
        InputError: what `find_raw_recordings`, `load_asr_model` and `Segmenter` find, a corpus in output_dir, a full
            disk, or not one good segment in all the recordings.
    """
    # Unless it is told so, accelerate takes two processes without a GPU for two runs of one.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_PATIENCE)
    check_output_dir(config.output_dir, overwrite=config.overwrite_output_dir)
    files = find_raw_recordings(config)
    asr_model = load_asr_model(config.asr, revision=config.asr_revision, device=state.device)
    segmenter = Segmenter(config, asr_model)
    about = segmenter.revisions | {
        "recipe": asdict(config),
        "git_commit": git_commit(),
        "versions": library_versions(),
    }
    knobs = {name: value for name, value in about["recipe"].items() if name not in _PLACES}
    made_by = {"recipe": knobs, "version": __version__} | segmenter.revisions
    parts = SegmentStore(config.output_dir, overwrite=config.overwrite_output_dir, made_by=made_by)

    whole = [file for file in files if file.flaw is None]
    missing = [file for file in whole if file not in parts]
    if len(missing) < len(whole):
        logger.info("%d of %d recordings were finished by an earlier run", len(whole) - len(missing), len(whole))
    state.wait_for_everyone()  # until all have looked nobody adds: all must share out the same
    shares = share_out([file.seconds for file in missing], num_shares=state.num_processes)
    mine = [missing[index] for index in shares[state.process_index]]
    for file in tqdm(mine, desc="Segmenting", unit=" files", position=state.process_index):
        parts.add(file, segmenter.segments(file))
    state.wait_for_everyone()
    if state.is_main_process:
        _write_corpus(parts, files, about=about | {"sources": config.sources})
    state.wait_for_everyone()
    return json.loads((parts.target / "segment.json").read_text(encoding="utf-8"))


def _write_corpus(parts: SegmentStore, files: list[RawRecording], *, about: dict[str, Any]) -> None:
    rows: list[SegmentRow] = []
    rejects: list[Reject] = []
    for file in files:
        for row in parts[file] if file.flaw is None else [file.flaw.at(file.columns | NOWHERE)]:
            (rejects if isinstance(row, Reject) else rows).append(row)
    if not rows:
        parts.clear()
        counts, first = count_rejects(rejects), rejects[0].record()
        raise InputError(f"no segment is left of {len(files)} recordings: {counts}; the first: {first}")
    about |= {"recordings": len(files), "recorded_seconds": round(sum(file.seconds for file in files), 2)}
    lines = [reject.record() for reject in rejects]
    write_lists(parts.folder, rows, lines, counts=count_rejects(rejects), record=about)
    parts.become_corpus(rows)
