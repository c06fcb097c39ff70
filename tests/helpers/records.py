"""Records as runs write them, for the tests of cards and pushes."""

RUN = {
    "recipe": {"method": "lora", "lora_r": 16, "learning_rate": 1e-4, "allow_untrained": False, "hub_token": None},
    "base_model": "bosonai/higgs-tts-2-3b-base",
    "base_revision": "d80c511612b3040ff2877ce3d408747df1739f11",
    "base_fingerprint": "basefingerprint",
    "method": "lora",
    "codec": "bosonai/higgs-audio-v2-tokenizer@403fbacf",
    "datasets": [
        {"path": "tester/corpus", "fingerprint": "fingerprint1", "rows": 36, "seconds": 180.0},
        {"path": "/home/someone/outputs/mine", "fingerprint": "fingerprint2", "rows": 4, "seconds": 36.0},
    ],
    "git_commit": "0123456789abcdef",
    "versions": {"torch": "2.11.0", "transformers": "5.17.0"},
    "hardware": "1 x NVIDIA H100",
    "steps": 100,
    "losses": {"loss": 3.5, "eval_loss": 3.75},
    "log_history": [
        {"step": step, "loss": 7.0 - step / 20, "loss_text": 0.5, "loss_codebook_0": 5.25, "learning_rate": 1e-4}
        for step in range(2, 101, 2)
    ]
    + [{"step": 100, "eval_loss": 3.75, "eos_accuracy": 0.875}],
}
MERGE = {
    "base_model": RUN["base_model"],
    "base_revision": RUN["base_revision"],
    "adapter": "tester/voice",
    "adapter_revision": None,
    "dtype": "bfloat16",
    "git_commit": "0123456789abcdef",
    "versions": {"peft": "0.21.0"},
    "hardware": "1 x NVIDIA H100",
    "max_logit_difference": 0.015625,
    "mean_logit_difference": 0.001,
    "likeliest_codes_equal": 0.9999,
}
METRICS = {
    "rows": {
        "real": {"wer": {"value": 0.02, "low": 0.01, "high": 0.03, "n": 4}},
        "base": {
            "wer": {"value": 0.25, "low": 0.125, "high": 0.5, "n": 4},
            "similarity": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4},
            "stop_rate": {"value": 0.75, "low": 0.5, "high": 1.0, "n": 4},
        },
        "finetuned": {
            "wer": {"value": 0.05, "low": 0.04, "high": 0.06, "n": 4},
            "cer": {"value": None, "low": None, "high": None, "n": 0},
            "similarity": {"value": 0.875, "low": 0.8, "high": 0.9, "n": 4},
            "stop_rate": {"value": 1.0, "low": 1.0, "high": 1.0, "n": 4},
        },
    },
    "asr": "openai/whisper-large-v3",
    "asr_revision": "asr123",
    "speaker": "package:resemblyzer",
    "speaker_revision": "0.1.4",
    "speaker_score": "ge2e_cosine",
    "normalizer": "auto",
    "languages": {"en": {"normalizer": "whisper_en", "unit": "word", "n": 5}},
    "protocol": "higgs_recipes",
    "n": 4,
    "skipped": 1,
    "seeds": [0, 1, 2, 3],
    "dataset": "tester/corpus",
    "split": "test",
    "held_out": True,
    "shared_with_train": 0,
    "codec": RUN["codec"],
    "base_model": RUN["base_model"],
    "adapter": "tester/voice",
    "untrained_base": False,
    "git_commit": "0123456789abcdef",
    "hardware": "1 x NVIDIA H100",
    "versions": {"torch": "2.11.0"},
    "clips": [
        {"id": "a", "text": "One.", "seed": 0}
        | {row: {"wav": "samples/a.wav"} for row in ("real", "base", "finetuned")}
    ],
}
CORPUS = {
    "codec": RUN["codec"],
    "sources": ["tester/recordings", {"path": "/home/someone/wavs", "speaker": "me"}],
    "license": None,
    "splits": {"train": {"rows": 2, "seconds": 7200.0}, "test": {"rows": 1, "seconds": 1800.0}},
    "rejects": {"shorter than 0.3 s": 3, "no|text": 1},
    "recipe": {"task": "single_speaker_smart_voice", "test_size": 0.1},
    "git_commit": None,
    "versions": {"datasets": "5.2.0"},
}
