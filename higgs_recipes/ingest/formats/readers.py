"""The reader of each format: a new one needs its module, its line here and its name in `corpus_configs.Format`."""

from collections.abc import Callable, Iterator
from pathlib import Path

from higgs_recipes.ingest.formats.audiofolder import read_audiofolder
from higgs_recipes.ingest.formats.f5 import read_f5
from higgs_recipes.ingest.formats.gpt_sovits import read_gpt_sovits
from higgs_recipes.ingest.formats.kaldi import read_kaldi
from higgs_recipes.ingest.formats.libritts import read_libritts
from higgs_recipes.ingest.formats.lines import Row
from higgs_recipes.ingest.formats.ljspeech import read_ljspeech
from higgs_recipes.ingest.formats.ms_swift import read_ms_swift
from higgs_recipes.ingest.formats.train_higgs_audio import read_train_higgs_audio
from higgs_recipes.ingest.formats.vctk import read_vctk


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "ms_swift": read_ms_swift,
    "train_higgs_audio": read_train_higgs_audio,
    "ljspeech": read_ljspeech,
    "libritts": read_libritts,
    "vctk": read_vctk,
    "kaldi": read_kaldi,
    "audiofolder": read_audiofolder,
    "gpt_sovits": read_gpt_sovits,
    "f5": read_f5,
}
