"""Generate speech from text with the base model, an adapter (folder or Hub id) or a merged checkpoint.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/generate.py \
    --config recipes/higgs-3b/generate.yaml --adapter me/my-voice --text "..."
"""

from higgs_recipes.audio.codec import load_codec
from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.devices import single_device
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.files import check_output_dir
from higgs_recipes.generation.generate import generate
from higgs_recipes.generation.synthesis import build_requests, write_speech
from higgs_recipes.modeling.model import load_model


def main() -> None:
    config = parse_recipe(GenerateConfig)
    check_output_dir(config.output_dir, overwrite=config.overwrite_output_dir)
    device = single_device()
    codec = load_codec(config.codec_name_or_path, revision=config.codec_revision, device=device)
    requests = build_requests(config, codec)
    model, tokenizer = load_model(
        config, adapter=config.adapter, adapter_revision=config.adapter_revision, device=device
    )
    generations = generate(model, tokenizer, requests, sampling=config)
    for line in write_speech(config, codec, generations):
        print(line)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
