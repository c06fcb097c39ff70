"""Folders of long recordings without transcripts -> a corpus folder that encode reads.

The recordings are found (raw_recordings) and split among the processes. Each is cut, measured and transcribed
(segmenter) and stored as soon as it is finished (segment_store). Then the main process writes the lists (curation) and
the page to exclude rows (listening_page). Each rejected segment has a line in rejects.jsonl with its file, times and
measurements.
"""

import json
import logging
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from tqdm.auto import tqdm

from higgs_recipes import __version__
from higgs_recipes.audio.asr import load_asr_model
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.errors import InputError
from higgs_recipes.files import real_path
from higgs_recipes.ingest.curation import write_lists
from higgs_recipes.ingest.raw_recordings import RawRecording, balanced_shares, find_raw_recordings
from higgs_recipes.ingest.rows import SegmentRow
from higgs_recipes.ingest.segment_store import KIND, WHOLE_RECORDING, SegmentStore, remove_finished
from higgs_recipes.ingest.segmenter import Segmenter
from higgs_recipes.output_folder import check_output, remove_leftovers
from higgs_recipes.provenance import git_commit, library_versions
from higgs_recipes.rejects import Reject, count_rejects
from higgs_recipes.run_lock import lock_output
from higgs_recipes.shared_work import join_processes


logger = logging.getLogger(__name__)

# Shares consist of whole recordings: the first process to finish may wait for hours.
_TIMEOUT = timedelta(days=30)
# Fields that do not change the segments of a recording.
_PATH_FIELDS = {"sources", "follow_links", "speaker_per_file", "strike", "output_dir", "overwrite_output_dir"}


def segment_recordings(config: SegmentConfig) -> dict[str, Any]:
    """Write the corpus and return segment.json: recordings, rows, seconds, rejects by category, recipe ...

    A killed run that is started again with the same recipe continues with the unfinished recordings. Several processes
    share the recordings; the corpus is the same.

    Raises:
        InputError: errors of `find_raw_recordings`, `load_asr_model` and `Segmenter`, a corpus in output_dir, another
            run with this output_dir, a full disk, or all segments are rejected.
    """
    with lock_output(config.output_dir):
        return _segment_recordings(config)


def _segment_recordings(config: SegmentConfig) -> dict[str, Any]:
    state = join_processes(timeout=_TIMEOUT)
    if state.is_main_process:
        target = real_path(config.output_dir)
        remove_leftovers(target)
        remove_finished(target)
        check_output(config, kind=KIND)
    state.wait_for_everyone()
    files = find_raw_recordings(config)
    asr_model = load_asr_model(config.asr, revision=config.asr_revision, device=state.device)
    segmenter = Segmenter(config, asr_model)
    record = segmenter.revisions | {
        "recipe": asdict(config),
        "git_commit": git_commit(),
        "versions": library_versions(),
    }
    made_by = {"recipe": segment_options(config), "version": __version__} | segmenter.revisions
    store = SegmentStore(config.output_dir, overwrite=config.overwrite_output_dir, made_by=made_by)

    usable = [file for file in files if file.flaw is None]
    missing = [file for file in usable if file not in store]
    if len(missing) < len(usable):
        logger.info("%d of %d recordings were finished by an earlier run", len(usable) - len(missing), len(usable))
    state.wait_for_everyone()  # no process adds to the store before all have read it: all must compute equal shares
    shares = balanced_shares([file.seconds for file in missing], num_shares=state.num_processes)
    own_share = [missing[index] for index in shares[state.process_index]]
    for file in tqdm(own_share, desc="Segmenting", unit=" files", position=state.process_index):
        store.add(file, segmenter.segments(file))
    state.wait_for_everyone()
    if state.is_main_process:
        _write_corpus(store, files, record=record | {"sources": config.sources})
    state.wait_for_everyone()
    return json.loads((store.target / "segment.json").read_text(encoding="utf-8"))


def segment_options(config: SegmentConfig) -> dict[str, Any]:
    """The fields that the segments of a recording depend on: with others, all recordings are segmented again."""
    return {name: value for name, value in asdict(config).items() if name not in _PATH_FIELDS}


def _write_corpus(store: SegmentStore, files: list[RawRecording], *, record: dict[str, Any]) -> None:
    rows: list[SegmentRow] = []
    rejects: list[Reject] = []
    for file in files:
        for row in store[file] if file.flaw is None else [file.flaw.at(file.columns | WHOLE_RECORDING)]:
            (rejects if isinstance(row, Reject) else rows).append(row)
    if not rows:
        store.clear()
        counts, first = count_rejects(rejects), rejects[0].record()
        raise InputError(f"all segments of {len(files)} recordings were rejected: {counts}; the first: {first}")
    record |= {"recordings": len(files), "recorded_seconds": round(sum(file.seconds for file in files), 2)}
    lines, counts = [reject.record() for reject in rejects], count_rejects(rejects)
    write_lists(store.folder, rows, lines, counts=counts, record=record)
    store.become_corpus(rows)
    for category, count in counts.items():
        logger.warning("%d rejected: %s", count, category)
