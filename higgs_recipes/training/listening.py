"""Speech of the weights in training: held-out rows are spoken at each evaluation and scored by metric models.

The rows, their seeds and the metric models are the same at every evaluation, so that checkpoints can be compared. The
run is not changed by it: weights, optimizer and random numbers are those of a run that does not listen.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from higgs_recipes.audio.asr import ASRModel, load_asr_model
from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.speaker import load_speaker_model
from higgs_recipes.audio.word_errors import ErrorCounts
from higgs_recipes.configs.listening import ListenConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.corpus.encoded import check_codec, fetch_encoded, load_encoded
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.clip_judgments import SpeakerCentroids, Transcription, check_turn_speakers, judge_clips
from higgs_recipes.evaluation.evaluate import choose_rules, make_requests
from higgs_recipes.evaluation.scores import corpus_rate, mean_score, share_score
from higgs_recipes.evaluation.scoring import UNNAMED_SPEAKER, SpokenClip
from higgs_recipes.evaluation.setup import sample_indexes
from higgs_recipes.generation.generate import generate
from higgs_recipes.hub.public import public_name
from higgs_recipes.shared_work import gather_pairs, own_share, shared_errors
from higgs_recipes.unwrap import unwrap_model


class Listener:
    """Scores the speech of a model that is being trained. Several processes share the work.

    Called with the model, it returns wer, cer, similarity, stop_rate, chars_per_second, listen_samples and
    listen_seconds; one without a clip to measure is left out. The scores are those of scripts/evaluate.py, except:

    - The voices to compare with are the codec's resynthesis of the rows' own codes, as a corpus need not have
      recordings. A row is compared with the other rows of its speaker, or with itself if there are none.
    - A clip without a voice has similarity 0, so that silence does not raise the mean of the other clips.

    chars_per_second is the number of normalized characters over the seconds of the clips that the model ended itself.

    Args:
        config: a recipe with `listen`.
        tokenizer: the tokenizer of the model.

    Raises:
        InputError: a model or corpus cannot be loaded, a clip may be longer than the window of the ASR model, or a row
            cannot be scored; the message names the row.
    """

    def __init__(self, config: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        assert config.listening is not None, "listen is off"
        self.listen, self.tokenizer, device = config.listening, tokenizer, config.device
        # The engine computes in one data type: that in which the result is loaded. An adapter is added to the base.
        self.dtype = getattr(torch, config.dtype) if config.method == "full" else None
        with preserved_random_state(device):
            with shared_errors():
                self.codec = load_codec(config.codec_name_or_path, revision=config.codec_revision, device=device)
                self.rows = held_out_rows(config, self.listen, codec=self.codec.revision)
                self.asr_model = load_asr_model(self.listen.asr, revision=self.listen.asr_revision, device=device)
                self.rules = choose_rules(self.rows, config=self.listen, asr_model=self.asr_model)
                self._check_asr_model(self.asr_model)
                self.speaker_model = load_speaker_model(
                    self.listen.speaker, revision=self.listen.speaker_revision, device=device
                )
                voices = self.codec.decode([torch.as_tensor(row["codes"], dtype=torch.int16) for row in self.rows])
            self.requests = make_requests(self.rows, seed=self.listen.seed)
            references = self._judge(voices)
        self.centroids = SpeakerCentroids(references)
        if not any(reference.word_errors.length for reference in references):
            raise InputError("listen: no text of the sampled rows has words: choose another test_split or seed")
        metric = config.metric_for_best_model
        has_voice = any(self._similarity(index, voice) is not None for index, voice in enumerate(references))
        if metric is not None and metric.removeprefix("eval_") == "similarity" and not has_voice:
            raise InputError(
                "metric_for_best_model: similarity cannot be measured, as no sampled row of one speaker has a voice "
                "that the speaker model finds: use another metric"
            )

    def _check_asr_model(self, asr_model: ASRModel) -> None:
        window = asr_model.window_seconds
        longest = max(self.rows, key=lambda row: row["seconds"])
        if self.listen.max_seconds > window:
            raise InputError(
                f"listen: max_seconds is {self.listen.max_seconds}, but {self.listen.asr} transcribes at most "
                f"{window:.0f} s: lower it"
            )
        if longest["seconds"] > window:
            raise InputError(
                f"listen: row {longest['id']} has {longest['seconds']:.1f} s, but {self.listen.asr} transcribes at "
                f"most {window:.0f} s: use another ASR model, seed or test_split"
            )
        for row, rule in zip(self.rows, self.rules, strict=True):
            if row["turn_speakers"]:
                asr_model.timed_words([], language=rule.language)  # raises if the ASR model has no word times

    def describe(self) -> dict[str, Any]:
        """The entry "listening" of run.json, without scores: the metric models and the rows."""
        return {
            "asr": public_name(self.listen.asr),
            "asr_revision": self.asr_model.revision,
            "speaker": public_name(self.listen.speaker),
            "speaker_revision": self.speaker_model.revision,
            "speaker_score": self.speaker_model.score_name,
            "rows": [row["id"] for row in self.rows],
        }

    def __call__(self, model: nn.Module) -> dict[str, float]:
        began = time.perf_counter()
        bare = unwrap_model(model)
        with preserved_random_state(bare.device), torch.no_grad(), speaking(bare, dtype=self.dtype):
            clips = self._speak(bare)
        with preserved_random_state(bare.device):
            judged = self._judge([clip.waveform for clip in clips])
        return self._scores(clips, judged) | {"listen_seconds": time.perf_counter() - began}

    def _speak(self, model: nn.Module) -> list[SpokenClip]:
        """A clip of each row; each process generates and decodes its share."""
        own = own_share([len(row["text"]) for row in self.rows])
        with shared_errors():
            generations = generate(
                model, self.tokenizer, [self.requests[index] for index in own], sampling=self.listen
            )
            # The codec decodes no clip without steps, which a model may generate in training.
            spoken = [place for place, generation in enumerate(generations) if len(generation.codes)]
            waveforms: list[Tensor] = [torch.zeros(0)] * len(own)
            for place, waveform in zip(
                spoken, self.codec.decode([generations[place].codes for place in spoken]), strict=True
            ):
                waveforms[place] = waveform
        clips = [
            SpokenClip(waveform, generation.stopped)
            for waveform, generation in zip(waveforms, generations, strict=True)
        ]
        gathered = gather_pairs(list(zip(own, clips, strict=True)))
        return [gathered[index] for index in range(len(self.rows))]

    def _judge(self, waveforms: Sequence[Tensor]) -> list[Transcription]:
        return judge_clips(
            self.rows, waveforms, asr_model=self.asr_model, speaker_model=self.speaker_model, rules=self.rules
        )

    def _scores(self, clips: Sequence[SpokenClip], judged: Sequence[Transcription]) -> dict[str, float]:
        characters = [clip.character_errors for clip in judged]
        scores = {
            "wer": corpus_rate([clip.word_errors for clip in judged])["value"],
            "cer": corpus_rate(characters)["value"],
            "similarity": mean_score(
                [self._similarity(index, clip) for index, clip in enumerate(judged)], low=-1.0, high=1.0
            )["value"],
            "stop_rate": share_score([bool(clip.stopped) for clip in clips])["value"],
            "chars_per_second": speaking_rate(clips, characters),
            "listen_samples": len(clips),
        }
        return {name: value for name, value in scores.items() if value is not None}

    def _similarity(self, index: int, clip: Transcription) -> float | None:
        """The cosine of a clip's voice and its speaker's; None for a dialogue, or if the speaker's is not known."""
        if self.rows[index]["turn_speakers"]:
            return None
        (segment,) = clip.segments
        is_alone = self.centroids.centroid(segment.speaker, without=index) is None
        without = -1 if is_alone else index
        if segment.embedding is None:
            return None if self.centroids.centroid(segment.speaker, without=without) is None else 0.0
        return self.centroids.similarity(segment, without=without)


def held_out_rows(config: SFTConfig, listen: ListenConfig, *, codec: str) -> list[dict[str, Any]]:
    """The rows of the recipe's test split that are spoken: those that scripts/evaluate.py samples by the same seed.

    If none of them names a speaker, those of one speaker are taken as of the same one, as in an evaluation.

    Args:
        codec: `Codec.revision` of the recipe's codec.

    Raises:
        InputError: a corpus cannot be loaded, is encoded with another codec, or has a dialogue whose turns do not fit
            its text.
    """
    corpora = []
    for path in config.datasets:
        corpora.append(load_encoded(fetch_encoded(path), split=config.test_split, with_audio=False))
        check_codec(corpora[-1], codec, where=f"{path}, split {config.test_split}")
    places = [(corpus, index) for corpus in corpora for index in range(len(corpus))]
    rows = [dict(corpus[index]) for corpus, index in (places[place] for place in sample_indexes(len(places), listen))]
    check_turn_speakers(rows)
    if all(row["speaker"] is None and not any(row["turn_speakers"]) for row in rows):
        rows = [row | {"speaker": UNNAMED_SPEAKER} for row in rows]
    return rows


def speaking_rate(clips: Sequence[SpokenClip], characters: Sequence[ErrorCounts]) -> float | None:
    """Characters per second of the clips that the model ended itself; None without any: a cut clip has no length.

    Args:
        characters: of each clip, whose `length` is that of its text.
    """
    ended = [(count.length, clip.seconds) for clip, count in zip(clips, characters, strict=True) if clip.stopped]
    seconds = sum(length for _, length in ended)
    return sum(count for count, _ in ended) / seconds if seconds else None


@contextmanager
def speaking(model: nn.Module, *, dtype: torch.dtype | None) -> Iterator[None]:
    """Set a bare model to evaluation, with copies of its trained weights in one data type; None: with its own weights.

    On exit the modules have the parameters that they had. They are replaced and not changed, because an optimizer, DDP
    and ZeRO-2 refer to a parameter and to its memory.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    replaced: list[tuple[dict[str, nn.Parameter | None], str, nn.Parameter]] = []
    copies: dict[nn.Parameter, nn.Parameter] = {}
    try:
        model.eval()
        for module in modules if dtype is not None else ():
            for name, weight in module._parameters.items():
                if weight is not None and weight.requires_grad:
                    if weight not in copies:
                        copies[weight] = nn.Parameter(weight.data.to(dtype), requires_grad=False)
                    replaced.append((module._parameters, name, weight))
        for parameters, name, weight in replaced:
            parameters[name] = copies[weight]
        yield
    finally:
        for parameters, name, weight in replaced:
            parameters[name] = weight
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


@contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """Restore the states of Python's, NumPy's and torch's random numbers on exit."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
