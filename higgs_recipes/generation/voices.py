"""The voices that a text is spoken in: reference clips by path or name, and descriptions."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from higgs_recipes.audio.clipping import EDGE_DB
from higgs_recipes.audio.decoding import AudioSource
from higgs_recipes.audio.io import read_audio
from higgs_recipes.chatml import conversation, is_dialogue
from higgs_recipes.configs.inference import PROFILE, GenerateConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.sources.listing import audio_stem, is_audio_name
from higgs_recipes.corpus.validation import SILENCE
from higgs_recipes.errors import InputError, TooLongError
from higgs_recipes.files import read_text_file
from higgs_recipes.generation.texts import normalize_text
from higgs_recipes.safe_yaml import load_yaml


# The limits of clips in a corpus (`min_seconds`, `max_seconds` of encode): the model was trained with such references.
MIN_REFERENCE_SECONDS, MAX_REFERENCE_SECONDS = 0.3, 30.0
PROFILES = "profile.yaml"  # in voices_dir: {profiles: {name: description}}

_FRAME = SAMPLE_RATE // 25
_NOISE_LEVEL_DB = 2.5  # the level of speech varies by more than 5 dB between frames, that of steady noise by less
_NOISE_BIN_DB = 3.0  # the bins of a noise's spectrum vary between frames by 5.6 dB, those of a tone by less


@dataclass(frozen=True)
class Voice:
    """A voice to speak in: a reference clip, or a description.

    Attributes:
        name: path or name of the clip, for the conversation and for messages.
        waveform: the clip (N,) at `SAMPLE_RATE`; None for a described voice.
        text: the normalized transcript of the clip; None if it stands in the system turn.
        description: a sentence; None for a clip.
    """

    name: str
    waveform: Tensor | None
    text: str | None = None
    description: str | None = None


def read_voices(config: GenerateConfig) -> list[Voice]:
    """Read and check the voices of a recipe, in the order of the speakers.

    Raises:
        InputError: an entry is neither a file nor a name in `voices_dir`, a transcript is missing or has no words, or
            `check_reference` refuses a clip. The message names the entry.
    """
    named = {} if config.voices_dir is None else _named_clips(config.voices_dir)
    in_system = in_system_turn(config)
    voices = []
    for index, entry in enumerate(config.voices):
        if entry.startswith(PROFILE):
            description = _description(entry.removeprefix(PROFILE).strip(), config.voices_dir)
            voices.append(Voice(entry, None, description=description))
            continue
        path = _clip_path(entry, named, config.voices_dir)
        waveform = check_reference(path, name=f"ref_audio {entry}")
        text = None if in_system else _transcript(entry, path, index, config)
        voices.append(Voice(str(path), waveform, text))
    return voices


def in_system_turn(config: GenerateConfig) -> bool:
    """Whether references stand in the system turn: `ref_in_system`, or any voice is described."""
    return config.ref_in_system or any(entry.startswith(PROFILE) for entry in config.voices)


def check_reference(source: AudioSource, *, name: str) -> Tensor:
    """Read a reference clip as a waveform (N,), and check that a voice can be cloned from it.

    Args:
        source: as of `read_audio`.
        name: name of the clip in messages.

    Raises:
        InputError: the clip cannot be read, is shorter or longer than the limits, is silent, or is steady noise.
    """
    advice = "use 3 to 15 s of clean speech"
    try:
        waveform = read_audio(source, name=name, max_seconds=MAX_REFERENCE_SECONDS)
    except TooLongError as error:
        raise InputError(
            f"{name}: too long for a reference clip: {error.detail}; {advice}: cut the file (ffmpeg -i clip.wav -t 15 "
            "short.wav) and give the words of that part as its transcript"
        ) from error
    seconds = len(waveform) / SAMPLE_RATE
    if seconds < MIN_REFERENCE_SECONDS:
        raise InputError(f"{name}: {seconds:.3f} s is too short for a reference clip; {advice}")
    if waveform.abs().max() < SILENCE:
        raise InputError(f"{name}: the reference clip is silent; {advice}")
    if is_steady_noise(waveform):
        raise InputError(f"{name}: the reference clip is noise without speech; {advice}")
    return waveform


def is_steady_noise(waveform: Tensor) -> bool:
    """Whether a waveform (N,) is noise of a constant level, such as white noise or a fan, for at least a second.

    >>> noise = torch.randn(24_000, generator=torch.Generator().manual_seed(0))
    >>> is_steady_noise(0.1 * noise), is_steady_noise(torch.sin(torch.arange(24_000) / 10))
    (True, False)
    """
    if len(waveform) < SAMPLE_RATE:
        return False
    frames = waveform[: len(waveform) // _FRAME * _FRAME].view(-1, _FRAME)
    spectrum = torch.fft.rfft(frames * torch.hann_window(_FRAME)).abs().square()[:, 4:]  # (frames, bins) above 100 Hz
    power = spectrum.sum(dim=1)
    spectrum = spectrum[power > power.max() * 10 ** (-EDGE_DB / 10)]  # without pauses
    if len(spectrum) * _FRAME < SAMPLE_RATE:  # a single vowel is steady too
        return False
    level_db = 10 * spectrum.sum(dim=1).log10()  # (frames,)
    bin_db = (10 * (spectrum + 1e-20).log10()).std(dim=0)  # (bins,)
    power = spectrum.mean(dim=0)
    return bool(level_db.std() < _NOISE_LEVEL_DB and (bin_db * power).sum() / power.sum() > _NOISE_BIN_DB)


def voice_conversation(
    text: str, voices: Sequence[Voice], *, scene: str | None, ref_in_system: bool, place: str
) -> list[dict]:
    """The conversation of `chatml.conversation` for a normalized text in these voices.

    A text with speaker tags is a dialogue: voice i is that of [SPEAKERi]. Any other text takes at most one voice.

    Args:
        place: where the text is from, for messages.

    Raises:
        InputError: the text has no speaker tags but several voices, or a speaker has no voice.
    """
    references: list[dict[str, Any]] = [
        {
            "speaker_tag": f"SPEAKER{index}",
            "ref_audio": None if voice.waveform is None else voice.name,
            "ref_text": voice.text,
            "description": voice.description,
        }
        for index, voice in enumerate(voices)
    ]
    row: dict[str, Any] = {"id": place, "text": text, "scene": scene}
    if is_dialogue(text):
        task = "multi_speaker_voice_cloning" if references else "multi_speaker_smart_voice"
        row["ref_speakers"] = references
    elif len(references) > 1:
        raise InputError(
            f"{place} has no speaker tags, but there are {len(references)} ref_audio clips: give one clip, or start "
            "each turn of the text with [SPEAKER0], [SPEAKER1], ..."
        )
    else:
        task = "zero_shot_voice_cloning" if references else "single_speaker_smart_voice"
        row |= references[0] if references else {}
    return conversation(row, task=task, ref_in_system=ref_in_system)


def _named_clips(voices_dir: str) -> dict[str, Path]:
    folder = Path(voices_dir).expanduser()
    if not folder.is_dir():
        raise InputError(f"voices_dir: no such folder: {folder}")
    return {audio_stem(path.name): path for path in sorted(folder.iterdir()) if is_audio_name(path.name)}


def _clip_path(entry: str, named: Mapping[str, Path], voices_dir: str | None) -> Path:
    if entry in named:
        return named[entry]
    path = Path(entry).expanduser()
    if voices_dir is not None and not path.is_file():
        raise InputError(f"ref_audio {entry}: no such file, and no voice of voices_dir; {_suggest(entry, named)}")
    return path


def _transcript(entry: str, path: Path, index: int, config: GenerateConfig) -> str:
    """The normalized transcript of a reference clip, from ref_text or from the file next to a named clip."""
    if config.ref_text:
        return normalize_text(config.ref_text[index], place=f"ref_text of {entry}")
    text_path = path.with_suffix(".txt")
    if not text_path.is_file():
        raise InputError(
            f"ref_audio {entry}: no transcript {text_path}; write what the clip says, give ref_text, or set "
            "ref_in_system"
        )
    return normalize_text(" ".join(read_text_file(text_path).split()), place=str(text_path))


def _description(profile: str, voices_dir: str | None) -> str:
    """The sentence after `profile:`, or that of a name in the profiles of voices_dir."""
    profiles = {} if voices_dir is None else _read_profiles(Path(voices_dir).expanduser() / PROFILES)
    if profile in profiles:
        return profiles[profile]
    if not any(map(str.isalnum, profile)):
        raise InputError(f"{PROFILE} is empty: describe the voice in a sentence")
    if profiles and len(profile.split()) == 1:
        raise InputError(f"{PROFILE}{profile}: no such name in {PROFILES}; {_suggest(profile, profiles)}")
    return " ".join(profile.split())


def _read_profiles(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        content = load_yaml(read_text_file(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    profiles = content.get("profiles") if isinstance(content, dict) else None
    if not isinstance(profiles, dict) or not all(isinstance(text, str) for text in profiles.values()):
        raise InputError(f"{path}: it must be a mapping: profiles: {{name: a sentence, ...}}")
    return {str(name): " ".join(text.split()) for name, text in profiles.items()}


def _suggest(name: str, names: Mapping[str, Any]) -> str:
    matches = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {matches[0]}?" if matches else f"there are {', '.join(names) or 'none'}"
