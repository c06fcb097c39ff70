"""Fine-tune Higgs Audio v2 on encoded corpora: LoRA or full, one recipe a run.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/sft.py \
    --config recipes/higgs-3b/voice_lora.yaml --push_to_hub
"""

from higgs_recipes.checkpoints import checkpoint_to_resume
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs import SFTConfig
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.files import resolved_revision
from higgs_recipes.hub import push_folder, resolve_target, write_adapter_card
from higgs_recipes.modeling import base_fingerprint, build_model, innermost
from higgs_recipes.provenance import resolved_recipe, surroundings
from higgs_recipes.recipe_parser import given_fields, parse_recipe
from higgs_recipes.records import public_record
from higgs_recipes.trainer import HiggsTrainer
from higgs_recipes.training_data import EncodedSamples, load_training_data


def main() -> None:
    config = parse_recipe(SFTConfig)
    checkpoint = checkpoint_to_resume(config)
    repo_id = resolve_target(config.hub_model_id, output_dir=config.output_dir, push=config.push_to_hub)
    recipe = resolved_recipe(config, given=given_fields(SFTConfig))
    # The Trainer would push without our card and leave the run without a retry command: the push below is ours.
    config.push_to_hub = False

    train_rows, test_rows, corpora = load_training_data(config)
    model, tokenizer = build_model(config)
    trainer = HiggsTrainer(
        model,
        config,
        train_dataset=EncodedSamples(train_rows, tokenizer),
        eval_dataset=EncodedSamples(test_rows, tokenizer) if test_rows is not None else None,
        collator=HiggsCollator(
            innermost(model).config, pack_to=config.pack_to, code_dropout=config.code_dropout, seed=config.seed
        ),
        run_info=public_record(
            surroundings()
            | {
                "recipe": recipe,
                "method": config.method,
                "base_model": config.model_name_or_path,
                "base_revision": resolved_revision(config.model_name_or_path, config.model_revision),
                "base_fingerprint": base_fingerprint(config),
                "codec": train_rows[0]["codec"],
                "datasets": corpora,
            }
        ),
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.stopped_early:
        print(f"stopped at step {trainer.state.global_step}; go on with --resume_from_checkpoint true")
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
