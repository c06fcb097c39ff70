"""Training data: lengths and samples of encoded rows, and the cache of tokenized prompts."""

from typing import get_args

import pytest
import torch
from datasets import Dataset

from higgs_recipes.chatml import Task
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.errors import InputError
from higgs_recipes.loss import label_counts
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.samples import SampleDataset, build_sample
from higgs_recipes.training.data import EncodedSamples, check_lengths, load_training_data, tokenize_rows
from higgs_recipes.training.trainer import HiggsTrainer
from higgs_recipes.unwrap import unwrap_model
from tests.helpers.checkpoints import build, load_tiny, random_rows, tiny_folder
from tests.helpers.corpus_folder import encode_config, make_corpus
from tests.helpers.tiny_codec import tiny_codec


def test_length_of_a_row_is_that_of_its_sample_in_a_batch(as_dataset):
    model, tokenizer = load_tiny()
    rows = random_rows(6)
    rows[3]["ref_codes"] *= 2  # two reference clips
    turns = '{"role": "assistant", "content": [{"type": "audio", "url": null}]}, '
    rows[3]["messages"] = rows[3]["messages"].replace('{"role": "assistant"', turns + '{"role": "assistant"', 1)
    rows[4]["ref_codes"] = None
    for row in rows:
        (length,) = HiggsCollator(model.config)([build_sample(row, tokenizer)])["attention_mask"].sum(dim=1).tolist()
        check_lengths(as_dataset([row]), tokenizer, pack_to=length)
        message = rf"^row {row['id']}: {length} positions do not fit pack_to={length - 1} \(the longest of 1 such rows"
        with pytest.raises(InputError, match=message):
            check_lengths(as_dataset([row]), tokenizer, pack_to=length - 1)


def test_longest_row_is_named(as_dataset):
    _, tokenizer = load_tiny()
    rows = random_rows(4)
    rows[2]["codes"] *= 100
    with pytest.raises(InputError, match=r"^row row2: \d{4} positions do not fit pack_to=50 \(the longest of 4 "):
        check_lengths(as_dataset(rows), tokenizer, pack_to=50)
    with pytest.raises(InputError, match=r"^row row2: \d{4} positions do not fit pack_to=900 \(the longest of 1 "):
        check_lengths(as_dataset(rows).select([2, 1]), tokenizer, pack_to=900)  # a view in another order


def clip_rows() -> list[dict]:
    """Rows with no reference clip, one, null, and two."""
    rows = random_rows(4)
    rows[2]["ref_codes"] = None
    rows[3]["ref_codes"] *= 2
    turns = '{"role": "assistant", "content": [{"type": "audio", "url": null}]}, '
    rows[3]["messages"] = rows[3]["messages"].replace('{"role": "assistant"', turns + '{"role": "assistant"', 1)
    return rows


def test_samples_from_columns_equal_those_from_rows(as_dataset):
    _, tokenizer = load_tiny()
    from_rows = SampleDataset(clip_rows(), tokenizer)
    tokenized = tokenize_rows(as_dataset(clip_rows()), tokenizer)
    assert tokenize_rows(tokenized, tokenizer) is tokenized
    for order in ([0, 1, 2, 3], [3, 1], [2, 2]):
        samples = EncodedSamples(tokenized, tokenizer).__getitems__(order)
        for index, sample in zip(order, samples, strict=True):
            expected = from_rows[index]
            assert sample.keys() == expected.keys()
            assert sample["row_index"] == index and sample["supervise"] == expected["supervise"]
            assert all(torch.equal(sample[name], expected[name]) for name in ("input_ids", "labels"))
            assert list(map(torch.equal, sample["codes"], expected["codes"])) == [True] * len(expected["codes"])
    assert EncodedSamples(tokenized, tokenizer).num_positions() == from_rows.num_positions()
    picked = EncodedSamples(tokenized.select([3, 0]), tokenizer)
    assert len(picked) == 2 and picked.row_id(0) == "row3"
    assert torch.equal(picked[0]["codes"][-1], from_rows[3]["codes"][-1])


def test_invalid_row_of_columns_is_named(as_dataset):
    _, tokenizer = load_tiny()
    rows = random_rows(2)
    rows[1]["ref_codes"] = []
    with pytest.raises(InputError, match="row row1: 2 audio turns for 1 clips of codes"):
        EncodedSamples(tokenize_rows(as_dataset(rows), tokenizer), tokenizer)[1]


def test_prompts_on_disk_are_tokenized_once_per_tokenizer(tmp_path, monkeypatch, as_dataset):
    _, tokenizer = load_tiny()
    as_dataset(random_rows(3)).to_parquet(tmp_path / "rows.parquet")

    def load() -> Dataset:
        return Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))

    first = tokenize_rows(load(), tokenizer)
    with monkeypatch.context() as patched:
        patched.setattr("higgs_recipes.training.data.tokenize_prompts", lambda *args, **kwargs: pytest.fail("again"))
        again = tokenize_rows(load(), tokenizer)
    assert again["input_ids"] == first["input_ids"]
    tokenizer.add_tokens(["Text number"])
    assert len(tokenize_rows(load(), tokenizer)["input_ids"][0]) < len(first["input_ids"][0])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    config = encode_config(make_corpus(folder / "recordings"), output_dir=str(folder / "codes"), cache_dir=str(folder))
    return str(encode_corpus(config))


def sft_config(corpus, tmp_path, **fields) -> SFTConfig:
    defaults = {"use_cpu": True, "report_to": "none", "eval_strategy": "steps", "eval_steps": 1}
    models = {
        "model_name_or_path": str(tiny_folder() / "model"),
        "codec_name_or_path": encode_config("-").codec_name_or_path,
    }
    return SFTConfig(output_dir=str(tmp_path), datasets=[corpus], **(defaults | models | fields))


def test_too_long_rows_are_refused_when_data_is_loaded(corpus, tmp_path):
    _, tokenizer = load_tiny()
    revision = tiny_codec().revision
    with pytest.raises(InputError, match=r"row \d\d: \d+ positions do not fit pack_to=100 .*lower max_seconds"):
        load_training_data(sft_config(corpus, tmp_path, pack_to=100), tokenizer, codec=revision)
    train, test, corpora = load_training_data(
        sft_config(corpus, tmp_path, pack_to=1000), load_tiny()[1], codec=tiny_codec().revision
    )
    assert (len(train), len(test)) == (4, 2)
    assert (corpora[0]["path"], corpora[0]["rows"]) == (corpus, 4)


@pytest.mark.parametrize("pack_to", [None, 1500], ids=["padded", "packed"])
def test_mix_of_all_four_tasks_trains(tmp_path, pack_to):
    recordings = make_corpus(tmp_path / "recordings", 48)
    tasks = dict.fromkeys(get_args(Task), 1.0)
    folder = encode_corpus(
        encode_config(
            recordings,
            output_dir=str(tmp_path / "codes"),
            cache_dir=str(tmp_path / "cache"),
            tasks=tasks,
            ref_min_seconds=0.3,
            test_size=0,
        )
    )
    config = sft_config(
        str(folder),
        tmp_path / "run",
        pack_to=pack_to,
        dtype="float32",
        allow_untrained=True,
        max_steps=2,
        eval_strategy="no",
        per_device_train_batch_size=16,
        logging_steps=1,
        save_strategy="no",
    )
    model, tokenizer = build(config)
    rows, _, _ = load_training_data(config, tokenizer, codec=tiny_codec().revision)
    assert set(load_encoded(folder, split="train")["task"]) == set(tasks)
    samples = SampleDataset(rows, tokenizer)
    trainer = HiggsTrainer(
        model,
        config,
        base=fetch_base(config),
        train_dataset=samples,
        run_info={},
    )
    trainer.train()
    first, second = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert second["loss"] < first["loss"]
    # Only the last clip of a row has targets: three special tokens, and T codes and one EOS per codebook.
    text_count, codebook_counts = label_counts(HiggsCollator(unwrap_model(model).config)(list(samples)))
    assert int(text_count) == 3 * len(rows)
    assert codebook_counts.tolist() == [sum(len(codes) + 1 for codes in rows["codes"])] * 8
