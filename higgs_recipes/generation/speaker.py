"""`Speaker`: text -> speech in Python, with a base model, an adapter or a merged checkpoint."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from higgs_recipes.audio.codec import Codec, load_codec
from higgs_recipes.audio.io import write_wav
from higgs_recipes.configs.field_types import require_types
from higgs_recipes.configs.fields import Dtype, require_seed
from higgs_recipes.configs.inference import ChunkConfig, GenerateConfig, SamplingConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.generation.chat_input import chat_request, is_conversation
from higgs_recipes.generation.chunk_joins import joined_chunks
from higgs_recipes.generation.decode_weights import DecodeWeights, decode_weights
from higgs_recipes.generation.engine import Engine
from higgs_recipes.generation.generate import Generation, Request
from higgs_recipes.generation.generate import generate as generate_requests
from higgs_recipes.generation.long_text import SpokenText, max_prompt_positions, speak_texts
from higgs_recipes.generation.speaker_files import find_codec, find_model
from higgs_recipes.generation.stream import Piece, stream_text
from higgs_recipes.generation.synthesis import build_texts, check_codec
from higgs_recipes.generation.text_chunks import TextChunk
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.modeling.lora import fetch_adapter, load_adapter, remove_adapter
from higgs_recipes.modeling.model import load_model
from higgs_recipes.unwrap import unwrap_model


@dataclass(frozen=True)
class Speech:
    """A generated clip.

    Attributes:
        waveform: (N,) float32 on the CPU, in [-1, 1].
        codes: (T, C) int16 on the CPU.
        stopped: whether the model ended the clip; False: it was cut at `max_seconds`.
        seed: seed that gives this clip again.
        sampling_rate: samples per second of the waveform.
    """

    waveform: Tensor
    codes: Tensor
    stopped: bool
    seed: int
    sampling_rate: int = SAMPLE_RATE

    def save(self, path: str | Path) -> None:
        """Write a wav file: 16-bit PCM, mono.

        Raises:
            InputError: the name does not end with .wav, or the disk is full.
        """
        if Path(path).suffix.lower() != ".wav":
            raise InputError(f"{path}: clips are saved as wav files: give a name that ends with .wav")
        write_wav(path, self.waveform)


class Speaker:
    """Speaks texts with one model, as scripts/generate.py does: equal texts, options and seeds give equal codes.

    A speaker may be called from several threads; the clips share the slots of its engine.

    Attributes:
        sampling_rate: samples per second of all waveforms.
    """

    sampling_rate = SAMPLE_RATE

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, codec: Codec, *, base: Snapshot) -> None:
        self._tokenizer, self._codec, self._base = tokenizer, codec, base
        self._folding = ExitStack()  # of the adapter into the weights
        self._lock = Lock()  # of the engine and its weights
        self._use(model)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        base: str | None = None,
        codec: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> "Speaker":
        """Load a base model, a LoRA adapter with its base, or a merged or fine-tuned checkpoint.

        Args:
            name: folder or Hub id.
            revision: commit, tag or branch.
            base: folder or Hub id of an adapter's base; None: the one that the adapter's run.json names.
            codec: folder or Hub id of the codec; None: the one that run.json names, or else the published one.
            device: None: the GPU if there is one.
            dtype: "bfloat16" or "float32"; None: bfloat16 on a GPU, float32 elsewhere.

        Raises:
            InputError: whatever `load_model` and `load_codec` raise; base or codec cannot be found.
        """
        device = _device(device)
        dtype = str(dtype or ("bfloat16" if device.type == "cuda" else "float32")).removeprefix("torch.")
        if dtype not in get_args(Dtype):
            raise InputError(f"dtype {dtype}: expected {' or '.join(get_args(Dtype))}")
        files = find_model(str(name), revision=revision, base=base, dtype=dtype)
        codec = find_codec(None if codec is None else str(codec), files.run, name=str(name))
        loaded = load_codec(codec.codec_name_or_path, revision=codec.codec_revision, device=device)
        check_codec(loaded, files.adapter, files.base)
        model, tokenizer = load_model(files.config, base=files.base, adapter=files.adapter, device=device)
        return cls(model, tokenizer, loaded, base=files.base)

    def __call__(self, text: str | Sequence[Any], *, seed: int = 0, **options: Any) -> Speech | list[Speech]:
        """Speak one text, a list of texts, a conversation, or a list of these.

        A text with [SPEAKER0], [SPEAKER1] ... is a dialogue. A long text is spoken in chunks, which are joined. A
        conversation is a list of turns {"role", "content"}, as chat templates and upstream's serve engine take them;
        see `chat_input.chat_request`.

        Args:
            text: what to speak.
            seed: of the first clip; clip i has seed + i.
            options: of texts: `ref_audio` and `ref_text` (a clip to clone and its transcript), `voice` (a sentence
                that describes the voice), each a list in a dialogue, in the order of the speakers; `scene` (a
                sentence about the recording), `voices_dir`, `ref_in_system`, `text_normalizer` and the fields of
                `ChunkConfig`. Of all: the fields of `SamplingConfig`, such as `temperature` and `max_seconds`.
                See `GenerateConfig`.

        Returns:
            One clip, or a list if `text` is a list of texts or conversations.

        Raises:
            InputError: a text, an option or a reference clip is invalid; the message names it.
        """
        if not isinstance(text, (str, list, tuple)):
            raise InputError(f"a text is a string, a conversation a list of turns, got {text!r:.80}")
        is_single = isinstance(text, str) or is_conversation(text)
        texts, sampling, buffer_size = self._read([text] if is_single else text, seed, options)
        engine = self._engine_for(sampling, texts, buffer_size)

        def generate(requests: list[Request]) -> list[Generation]:
            return generate_requests(self._model, self._tokenizer, requests, sampling=sampling, engine=engine)

        clips = speak_texts(texts, generate, buffer_size=buffer_size)
        waveforms = self._codec.decode_in_turn([clip.codes for chunks in clips for clip in chunks])
        speeches = [
            _speech(spoken, chunks, islice(waveforms, len(chunks)))
            for spoken, chunks in zip(texts, clips, strict=True)
        ]
        return speeches[0] if is_single else speeches

    def stream(self, text: str | Sequence[Any], *, seed: int = 0, **options: Any) -> Iterator[Tensor]:
        """Speak one text or conversation, and yield pieces of the waveform (N_i,) while it is generated.

        Joined, the pieces equal the waveform of a call, except for float32 rounding. The first piece is 160 ms long,
        later ones are longer. Closing the iterator, or dropping it, ends the clip. Generation goes on while the next
        piece is waited for.

        Args:
            text, seed, options: as in a call.
        """
        return (piece.waveform for piece in self.stream_pieces(text, seed=seed, **options))

    def stream_pieces(self, text: str | Sequence[Any], *, seed: int = 0, **options: Any) -> Iterator[Piece]:
        """As `stream`, with the codes so far; the last piece tells whether the clip ended by itself."""
        if not (isinstance(text, str) or is_conversation(text)):
            raise InputError(f"a stream speaks one text or conversation, got {text!r:.80}")
        texts, sampling, buffer_size = self._read([text], seed, options)
        engine = self._engine_for(sampling, texts, buffer_size)
        return stream_text(engine, self._tokenizer, self._codec, texts[0], buffer_size=buffer_size)

    def set_adapter(self, name: str | Path | None, *, revision: str | None = None) -> None:
        """Speak with another adapter of the same base, or with the base alone. Streams must have ended.

        Args:
            name: folder or Hub id of a LoRA adapter; None: no adapter. The weights of the base are as they were.

        Raises:
            InputError: as `load_adapter`; the base then speaks alone.
        """
        files = None if name is None else fetch_adapter(name, revision=revision)
        if files is not None:
            check_codec(self._codec, files)
        self._folding.close()
        self._use(remove_adapter(self._model))
        if files is not None:
            self._use(load_adapter(self._model, files, base=self._base).eval())

    def _use(self, model: nn.Module) -> None:
        self._model, self._bare = model, unwrap_model(model)
        self._weights: dict[bool, DecodeWeights] = {}  # with 8 bits or without, once they are used
        self._engine: Engine | None = None

    def _engine_for(self, sampling: SamplingConfig, texts: Sequence[SpokenText], buffer_size: int | None) -> Engine:
        """The engine of the last call, unless the sampling is another one: it is part of the compiled steps."""
        with self._lock:
            engine = self._engine
            if engine is None or engine.sampling != sampling:
                int8 = sampling.generation_weights == "int8"
                if int8 not in self._weights:
                    self._weights[int8] = self._folding.enter_context(decode_weights(self._bare, int8=int8))
                engine = self._engine = Engine(self._bare, self._weights[int8], sampling)
            if texts:
                longest = max_prompt_positions(
                    texts, self._tokenizer, buffer_size=buffer_size, max_seconds=sampling.max_seconds
                )
                engine.reserve(sampling.batch_size, -(-longest // PROMPT_BUCKET) * PROMPT_BUCKET)
        return engine

    def _read(
        self, texts: Sequence[Any], seed: int, options: dict[str, Any]
    ) -> tuple[list[SpokenText], SamplingConfig, int | None]:
        """What to speak, how to sample it, and `chunk_buffer_size`."""
        require_seed(seed)
        if unknown := sorted(set(options) - _SAMPLING - _TEXT_OPTIONS):
            expected = ", ".join(sorted(_SAMPLING | _TEXT_OPTIONS))
            raise TypeError(f"unknown option {unknown[0]!r}: expected one of {expected}")
        strings = [text for text in texts if isinstance(text, str)]
        if texts and not strings and (others := sorted(set(options) - _SAMPLING)):
            raise InputError(f"{others[0]} is an option of texts: a conversation has its own clips and scene")
        config = _recipe(strings or ["-"], options)
        built = iter(build_texts(config, self._codec) if strings else [])
        spoken = []
        for index, text in enumerate(texts):
            if isinstance(text, str):
                spoken.append(replace(next(built), seed=seed + index))
            elif is_conversation(text):
                place = f"conversation {index}"
                request = chat_request(text, self._codec, seed=seed + index, name=place)
                turns, clips = request.conversation, request.ref_codes
                spoken.append(SpokenText("", place, [TextChunk("", 0.0)], turns, clips, request.seed))
            else:
                raise InputError(f"text {index} is neither a string nor a list of turns: {text!r:.80}")
        sampling = SamplingConfig(**{name: getattr(config, name) for name in _SAMPLING})
        return spoken, sampling, config.chunk_buffer_size


PROMPT_BUCKET = 512  # prompts are rounded up to a multiple of this, so that an engine's cache is rarely replaced
_SAMPLING = frozenset(field.name for field in fields(SamplingConfig))
_LISTS = {"ref_audio": "ref_audio", "ref_text": "ref_text", "voice": "profile"}  # option -> field of a recipe
_TEXT_OPTIONS = frozenset(
    ("scene", "voices_dir", "ref_in_system", "text_normalizer", "text_language", *_LISTS)
    + tuple(field.name for field in fields(ChunkConfig))
)


def _speech(spoken: SpokenText, clips: Sequence[Generation], waveforms: Iterator[Tensor]) -> Speech:
    """The clip of a text from the clips of its chunks."""
    if len(clips) == 1:
        waveform = next(waveforms)
    else:
        waveform = torch.cat(list(joined_chunks(waveforms, [chunk.pause for chunk in spoken.chunks])))
    codes = torch.cat([clip.codes for clip in clips])
    return Speech(waveform, codes, all(clip.stopped for clip in clips), spoken.seed)


def _device(device: str | torch.device | None) -> torch.device:
    has_gpu = torch.cuda.is_available()
    try:
        device = torch.device(device or ("cuda" if has_gpu else "cpu"))
    except RuntimeError as error:
        raise InputError(f"device {device}: {str(error).splitlines()[0]}") from error
    if device.type == "cuda" and not has_gpu:
        raise InputError(f"device {device}: torch finds no GPU here; leave device out, or give device='cpu'")
    return device


def _recipe(texts: list[str], options: dict[str, Any]) -> GenerateConfig:
    """The recipe of scripts/generate.py with the options of a call."""
    options = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    recipe = {name: value for name, value in options.items() if name not in _LISTS}
    for option, field in _LISTS.items():
        value = options.get(option)
        if value is not None:
            items = list(value) if isinstance(value, (list, tuple)) else [value]
            recipe[field] = [str(item) if isinstance(item, Path) else item for item in items]
    require_types(recipe, GenerateConfig, where="option ")
    return GenerateConfig(text=texts, **recipe)
