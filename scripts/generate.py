"""Generate speech from text with the base model, an adapter (folder or Hub id) or a merged checkpoint.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/generate.py \
    --config recipes/higgs-3b/generate.yaml --adapter me/my-voice --text "..."

Several GPUs share the texts: accelerate launch --config_file accelerate_configs/ddp.yaml --num_processes 4 ...
With --stream, raw PCM on stdout while it is generated: ... --stream | ffplay -f s16le -ar 24000 -nodisp -
"""

from contextlib import ExitStack

from accelerate import PartialState

from higgs_recipes.audio.codec import load_codec
from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.devices import single_device
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.generation.finished_clips import (
    FinishedClips,
    clip_settings,
    remove_finished_clips,
)
from higgs_recipes.generation.long_text import generate_texts
from higgs_recipes.generation.pcm_output import reserve_stdout, stream_speech, write_pcm
from higgs_recipes.generation.synthesis import build_texts, check_codec, write_speech
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.lora import fetch_adapter
from higgs_recipes.modeling.model import load_model
from higgs_recipes.output_folder import check_output
from higgs_recipes.run_lock import lock_output
from higgs_recipes.shared_work import shared_device, shared_errors


def main() -> None:
    device, stdout = shared_device(), None
    with ExitStack() as stack:
        with shared_errors():
            config = parse_recipe(GenerateConfig)
            if config.stream:
                single_device()  # refuses several processes
                stdout = reserve_stdout()
            else:
                stack.enter_context(lock_output(config.output_dir))
                check_output(config, kind="generate")
            codec = load_codec(config.codec_name_or_path, revision=config.codec_revision, device=device)
            texts = build_texts(config, codec)
            base = fetch_base(config)
            adapter = config.adapter and fetch_adapter(config.adapter, revision=config.adapter_revision)
            check_codec(codec, adapter, base)
            model, tokenizer = load_model(config, base=base, adapter=adapter, device=device)
        if stdout is not None:
            pieces = stream_speech(model, tokenizer, codec, texts, config=config)
            write_pcm(pieces, stdout, pcm_format=config.stream_format)
            return
        finished = FinishedClips(config.output_dir, clip_settings(config, base=base, adapter=adapter))
        clips = generate_texts(model, tokenizer, texts, config=config, finished=finished)
        with shared_errors():
            if PartialState().is_main_process:
                for line in write_speech(config, codec, texts, clips):
                    print(line)
                remove_finished_clips(config.output_dir)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
