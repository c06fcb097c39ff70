"""Fine-tune Higgs Audio v2 on encoded corpora, with LoRA or full fine-tuning.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/sft.py \
    --config recipes/higgs-3b/voice_lora.yaml --push_to_hub
"""

from higgs_recipes.audio.codec import codec_revision
from higgs_recipes.configs.parser import given_fields, parse_recipe
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.hub.public import public_record
from higgs_recipes.hub.push import push_folder, resolve_target, write_adapter_card
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.fingerprint import folder_fingerprint
from higgs_recipes.modeling.model import build_model, load_tokenizer
from higgs_recipes.provenance import resolved_recipe, run_environment
from higgs_recipes.training.checkpoints import checkpoint_to_resume
from higgs_recipes.training.data import EncodedSamples, load_training_data
from higgs_recipes.training.run_estimate import epochs_to_train
from higgs_recipes.training.trainer import HiggsTrainer


def main() -> None:
    config = parse_recipe(SFTConfig)
    checkpoint = checkpoint_to_resume(config)
    repo_id = resolve_target(config.hub_model_id, output_dir=config.output_dir, push=config.push_to_hub)
    recipe = resolved_recipe(config, given=given_fields(SFTConfig))
    config.push_to_hub = False  # pushed below, with a model card; the Trainer would push without it

    base = fetch_base(config)
    tokenizer = load_tokenizer(base)
    codec = codec_revision(config.codec_name_or_path, revision=config.codec_revision)
    train_rows, test_rows, corpora = load_training_data(config, tokenizer, codec=codec)
    train_samples = EncodedSamples(train_rows, tokenizer)
    config.num_train_epochs = epochs_to_train(config, train_samples)
    trainer = HiggsTrainer(
        build_model(config, base),
        config,
        base=base,
        train_dataset=train_samples,
        eval_dataset=EncodedSamples(test_rows, tokenizer) if test_rows is not None else None,
        run_info=public_record(
            run_environment()
            | {
                "recipe": recipe,
                "method": config.method,
                "base_model": config.model_name_or_path,
                "base_revision": base.commit,
                "base_fingerprint": folder_fingerprint(base.folder),
                "codec": codec,
                "datasets": corpora,
            }
        ),
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.stopped_early:
        print(f"stopped at step {trainer.state.global_step}; continue with --resume_from_checkpoint true")
        return
    trainer.save_model()
    if not trainer.is_world_process_zero():
        return
    write_adapter_card(config.output_dir, name=repo_id)
    print(f"fine-tuned: {config.output_dir}")
    if repo_id:
        message = f"{config.method} fine-tuning, {trainer.state.global_step} steps"
        url = push_folder(config.output_dir, repo_id=repo_id, private=config.hub_private_repo, commit_message=message)
        print(f"pushed: {url}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
