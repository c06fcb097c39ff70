import pytest
from datasets import Dataset, Features, List, Value

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs import SFTConfig
from higgs_recipes.encoding import encode_corpus
from higgs_recipes.errors import InputError
from higgs_recipes.samples import build_sample
from higgs_recipes.training_data import check_lengths, load_training_data
from tests.checkpoints import load_tiny, random_rows, tiny_folder
from tests.corpus_folder import encode_config, make_corpus


CODES = List(List(Value("int16"), length=8))


def dataset(rows: list[dict]) -> Dataset:
    columns = ("id", "messages", "codes", "ref_codes")
    features = {"id": Value("string"), "messages": Value("string"), "codes": CODES, "ref_codes": List(CODES)}
    return Dataset.from_list([{name: row[name] for name in columns} for row in rows], features=Features(features))


def test_a_row_is_as_long_as_the_collator_makes_it():
    model, tokenizer = load_tiny()
    rows = random_rows(6)
    rows[3]["ref_codes"] *= 2  # two reference clips
    turns = '{"role": "assistant", "content": [{"type": "audio", "url": null}]}, '
    rows[3]["messages"] = rows[3]["messages"].replace('{"role": "assistant"', turns + '{"role": "assistant"', 1)
    rows[4]["ref_codes"] = None
    for row in rows:
        (length,) = HiggsCollator(model.config)([build_sample(row, tokenizer)])["attention_mask"].sum(dim=1).tolist()
        check_lengths(dataset([row]), tokenizer, pack_to=length)
        with pytest.raises(
            InputError, match=f"^row {row['id']}: {length} positions do not fit pack_to={length - 1}; of 1 rows "
        ):
            check_lengths(dataset([row]), tokenizer, pack_to=length - 1)


def test_the_longest_row_is_named_wherever_it_stands():
    _, tokenizer = load_tiny()
    rows = random_rows(4)
    rows[2]["codes"] *= 100
    with pytest.raises(InputError, match=r"^row row2: \d{4} positions do not fit pack_to=50; of 4 rows"):
        check_lengths(dataset(rows), tokenizer, pack_to=50)
    with pytest.raises(InputError, match=r"^row row2: \d{4} positions do not fit pack_to=900; of 1 rows"):
        check_lengths(dataset(rows).select([2, 1]), tokenizer, pack_to=900)  # a view of the table, in another order


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    config = encode_config(make_corpus(folder / "recordings"), output_dir=str(folder / "codes"), cache_dir=str(folder))
    return str(encode_corpus(config))


def sft_config(corpus, tmp_path, **fields) -> SFTConfig:
    plain = {"use_cpu": True, "report_to": "none", "eval_strategy": "steps", "eval_steps": 1}
    models = {
        "model_name_or_path": str(tiny_folder() / "model"),
        "codec_name_or_path": encode_config("-").codec_name_or_path,
    }
    return SFTConfig(output_dir=str(tmp_path), datasets=[corpus], **(plain | models | fields))


def test_rows_that_do_not_fit_are_found_before_a_model_is_loaded(corpus, tmp_path):
    with pytest.raises(InputError, match=r"row \d\d: \d+ positions do not fit pack_to=100; .*lower max_seconds"):
        load_training_data(sft_config(corpus, tmp_path, pack_to=100))
    train, test, described = load_training_data(sft_config(corpus, tmp_path, pack_to=1000))
    assert (len(train), len(test)) == (4, 2)
    assert (described[0]["path"], described[0]["rows"]) == (corpus, 4)
