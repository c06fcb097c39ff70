"""Corpora prepared for tasks, for tests."""

import json

from higgs_recipes.corpus.corpus import load_rows
from higgs_recipes.corpus.task_assignment import assign_tasks
from tests.helpers.corpus_folder import encode_config


SMART, CLONING = "single_speaker_smart_voice", "zero_shot_voice_cloning"
DIALOGUE, DIALOGUE_CLONING = "multi_speaker_smart_voice", "multi_speaker_voice_cloning"


def load_task_rows(folder, **fields):
    """(config, corpus, rows of its only split)"""
    config = encode_config(folder, **{"test_size": 0, "ref_min_seconds": 0.3} | fields)
    corpus = load_rows(config)
    return config, corpus, assign_tasks(corpus, corpus.rows, config, split="train")


def audio_urls(row) -> list[str]:
    return [item["url"] for turn in json.loads(row["messages"]) for item in turn["content"] if item["type"] == "audio"]
