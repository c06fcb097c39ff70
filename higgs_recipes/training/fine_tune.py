"""One fine-tuning run: load what the recipe names, train, and save the result with its record."""

from higgs_recipes.audio.codec import codec_revision
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.hub.lineage import base_origin
from higgs_recipes.hub.public import public_record
from higgs_recipes.hub.result_state import ResultState
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.fingerprint import folder_fingerprint
from higgs_recipes.modeling.lora import fetch_adapter
from higgs_recipes.modeling.model import build_model, load_tokenizer
from higgs_recipes.provenance import run_environment
from higgs_recipes.training.data import EncodedSamples, load_training_data
from higgs_recipes.training.resume import RESUMED, SETTINGS, check_resume, run_settings
from higgs_recipes.training.run_estimate import epochs_to_train
from higgs_recipes.training.trainer import HiggsTrainer


def fine_tune(config: SFTConfig, state: ResultState, *, checkpoint: str | None) -> HiggsTrainer:
    """Train and save to `config.output_dir`; return the trainer, whose `stopped_early` says whether it is incomplete.

    Args:
        config: the recipe.
        state: state of the result, written when training begins.
        checkpoint: checkpoint to resume from; None: a new run.

    Raises:
        InputError: as what loads the base, the adapter and the corpora; or the checkpoint is of another run.
    """
    base = fetch_base(config)
    adapter = config.adapter and fetch_adapter(config.adapter, revision=config.adapter_revision)
    tokenizer = load_tokenizer(base)
    codec = codec_revision(config.codec_name_or_path, revision=config.codec_revision)
    train_rows, test_rows, corpora = load_training_data(config, tokenizer, codec=codec)
    train_samples = EncodedSamples(train_rows, tokenizer)
    config.num_train_epochs = epochs_to_train(config, train_samples)
    run = public_record(
        run_environment()
        | {
            "recipe": state.recipe,
            "method": config.method,
            "base_model": config.model_name_or_path,
            "base_revision": base.commit,
            "base_fingerprint": folder_fingerprint(base.folder),
            **base_origin(base, checkpoint=checkpoint),
            **({"adapter": adapter.name, "adapter_revision": adapter.commit} if adapter else {}),
            "codec": codec,
            "datasets": corpora,
        }
    )
    settings = run_settings(config, run)
    if checkpoint is not None:
        run[RESUMED] = check_resume(checkpoint, settings)
    listener = None
    if config.listen is not None:
        from higgs_recipes.training.listening import Listener  # its packages are needed only here

        listener = Listener(config, tokenizer)
        run["listening"] = listener.describe()
    trainer = HiggsTrainer(
        build_model(config, base, adapter=adapter),
        config,
        base=base,
        train_dataset=train_samples,
        eval_dataset=EncodedSamples(test_rows, tokenizer) if test_rows is not None else None,
        run_info=run | {SETTINGS: settings},
        listener=listener,
    )
    if trainer.is_world_process_zero():
        state.write()
    trainer.train(resume_from_checkpoint=checkpoint)
    if not trainer.stopped_early:
        trainer.save_model()
    return trainer
