"""Batches equal the tensors of the reference, padded and packed; invalid samples are refused with their row."""

import pytest
import torch

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.constants import IGNORE_INDEX
from higgs_recipes.delay import delay_codes, delay_targets, undelay_frames
from tests.helpers.tiny import golden_config, golden_samples, golden_tensors


CONFIG = golden_config()
AUDIO, PAD = CONFIG.audio_token_id, CONFIG.pad_token_id
PADDED_KEYS = {"input_ids", "labels", "audio_input_ids", "audio_input_ids_mask", "audio_labels", "attention_mask"}
PACKED_KEYS = PADDED_KEYS - {"attention_mask"} | {"position_ids"}


def golden(index: int, name: str) -> torch.Tensor:
    return golden_tensors()[f"sample{index}.{name}"]


def sample(num_steps: int = 2, **changes) -> dict:
    fields = {
        "input_ids": torch.tensor([5, AUDIO, 6]),
        "labels": torch.tensor([-100, -100, 6]),
        "codes": [torch.zeros((num_steps, 8), dtype=torch.int16)],
        "supervise": [True],
        "row_index": 17,
    }
    return fields | changes


@pytest.mark.parametrize("index", range(4))
def test_one_sample_equals_the_reference(index):
    batch = HiggsCollator(CONFIG)(golden_samples()[index : index + 1])
    for name in ("input_ids", "labels", "audio_input_ids", "audio_labels"):
        assert torch.equal(batch[name][0], golden(index, name)), name
    assert batch["audio_input_ids_mask"].all() and batch["attention_mask"].all()


def test_padding_is_on_the_right():
    batch = HiggsCollator(CONFIG)(golden_samples())
    for index in range(4):
        num_positions, num_frames = len(golden(index, "input_ids")), len(golden(index, "audio_input_ids"))
        assert torch.equal(batch["input_ids"][index, :num_positions], golden(index, "input_ids"))
        assert (batch["input_ids"][index, num_positions:] == PAD).all()
        assert torch.equal(batch["labels"][index, :num_positions], golden(index, "labels"))
        assert (batch["labels"][index, num_positions:] == IGNORE_INDEX).all()
        assert batch["attention_mask"][index].tolist() == [1] * num_positions + [0] * (127 - num_positions)
        assert torch.equal(batch["audio_input_ids"][index, :num_frames], golden(index, "audio_input_ids"))
        assert (batch["audio_input_ids"][index, num_frames:] == CONFIG.audio_stream_eos_id).all()
        assert torch.equal(batch["audio_labels"][index, :num_frames], golden(index, "audio_labels"))
        assert (batch["audio_labels"][index, num_frames:] == IGNORE_INDEX).all()
        assert int(batch["audio_input_ids_mask"][index].sum()) == num_frames
        assert batch["audio_input_ids_mask"][index, :num_frames].all()


def test_batch_has_the_argument_names_of_the_model():
    unnamed = [{k: v for k, v in sample.items() if k != "row_index"} for sample in golden_samples()]
    assert set(HiggsCollator(CONFIG)(unnamed)) == PADDED_KEYS
    assert set(HiggsCollator(CONFIG, pack_to=256)(unnamed)) == PACKED_KEYS
    assert HiggsCollator(CONFIG)(golden_samples())["row_index"].tolist() == [0, 1, 2, 3]
    assert HiggsCollator(CONFIG, pack_to=256)(golden_samples())["row_index"].tolist() == [0, 1, 2, 3]


def test_packing_is_first_fit_longest_first_and_keeps_the_order_of_arrival():
    # Lengths 32, 65, 26, 127: the longest takes one row, the other three share another.
    batch = HiggsCollator(CONFIG, pack_to=130)(golden_samples())
    rows = [torch.cat([golden(index, "input_ids") for index in row]) for row in ([0, 1, 2], [3])]
    assert [len(row) for row in rows] == [123, 127]
    for index, row in enumerate(rows):
        assert batch["input_ids"][index].tolist() == row.tolist() + [PAD] * (130 - len(row))


def test_packed_positions_restart_with_each_sample_and_with_the_padding():
    positions = HiggsCollator(CONFIG, pack_to=130)(golden_samples())["position_ids"]
    expected = [[*range(32), *range(65), *range(26), *range(7)], [*range(127), *range(3)]]
    assert positions.tolist() == expected


@pytest.mark.parametrize("pack_to", [None, 127, 130, 400])
def test_every_target_and_frame_is_kept(pack_to):
    batch = HiggsCollator(CONFIG, pack_to=pack_to)(golden_samples())
    assert int((batch["labels"] != IGNORE_INDEX).sum()) == 4 * 3
    targets = sum((golden(index, "audio_labels") != IGNORE_INDEX).sum() for index in range(4))
    assert int((batch["audio_labels"] != IGNORE_INDEX).sum()) == int(targets)
    num_frames = sum(len(golden(index, "audio_input_ids")) for index in range(4))
    assert int(batch["audio_input_ids_mask"].sum()) == num_frames
    assert int((batch["input_ids"] == AUDIO).sum()) == num_frames
    # Each row has as many frames as placeholders; otherwise clips of one row would be read in another.
    assert torch.equal((batch["input_ids"] == AUDIO).sum(dim=1), batch["audio_input_ids_mask"].sum(dim=1))


def test_reference_clip_is_input_only():
    reference, target = golden_samples()[1]["codes"]
    batch = HiggsCollator(CONFIG)([golden_samples()[1]])
    num_reference_frames = len(reference) + 9
    assert torch.equal(batch["audio_input_ids"][0, :num_reference_frames], delay_codes(reference))
    assert (batch["audio_labels"][0, :num_reference_frames] == IGNORE_INDEX).all()
    assert int((batch["audio_labels"] != IGNORE_INDEX).sum()) == (len(target) + 1) * 8


def test_frames_and_targets_equal_those_of_delay():
    clips = [torch.randint(0, 1024, (steps, 8), generator=torch.Generator().manual_seed(steps)) for steps in (3, 1, 9)]
    batch = HiggsCollator(CONFIG, pack_to=100)([sample(codes=[clip]) for clip in clips])
    for name, delay in {"audio_input_ids": delay_codes, "audio_labels": delay_targets}.items():
        frames = torch.cat([delay(clip) for clip in clips])
        assert torch.equal(batch[name][0], frames), name


def test_row_without_a_clip_has_no_frames():
    text_only = {"input_ids": torch.tensor([5, 6]), "labels": torch.tensor([-100, 6]), "codes": [], "supervise": []}
    plain, batch = HiggsCollator(CONFIG)([sample()]), HiggsCollator(CONFIG)([text_only | {"row_index": 1}, sample()])
    assert batch["audio_input_ids"].shape == (2, 11, 8)
    assert (batch["audio_input_ids"][0] == CONFIG.audio_stream_eos_id).all()
    assert (batch["audio_labels"][0] == IGNORE_INDEX).all() and not batch["audio_input_ids_mask"][0].any()
    for name in ("audio_input_ids", "audio_labels"):
        assert torch.equal(batch[name][1], plain[name][0]), name
    assert HiggsCollator(CONFIG)([text_only])["audio_input_ids"].shape == (1, 0, 8)


def test_first_token_of_a_sample_is_not_a_target():
    # In a packed row, the last position of another sample would predict it.
    labeled = sample(labels=torch.tensor([5, -100, 6]))
    for collator in (HiggsCollator(CONFIG), HiggsCollator(CONFIG, pack_to=30)):
        labels = collator([labeled, labeled])["labels"]
        assert sorted(labels[labels != IGNORE_INDEX].tolist()) == [6, 6]
    assert labeled["labels"].tolist() == [5, -100, 6]


def test_lists_give_the_same_batch_as_tensors():
    as_lists = {
        key: [clip.tolist() for clip in value] if key == "codes" else torch.as_tensor(value).tolist()
        for key, value in golden_samples()[1].items()
    }
    expected, batch = HiggsCollator(CONFIG)([golden_samples()[1]]), HiggsCollator(CONFIG)([as_lists])
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"labels": torch.tensor([-100, 6])}, "row 17: 2 labels for 3 input_ids"),
        (
            {"input_ids": torch.tensor([5, AUDIO, AUDIO])},
            "row 17: 2 audio placeholders, 1 clips and 1 supervise flags; the numbers must be equal",
        ),
        (
            {"codes": []},
            "row 17: 1 audio placeholders, 0 clips and 1 supervise flags; the numbers must be equal",
        ),
        (
            {"supervise": [True, False]},
            "row 17: 1 audio placeholders, 1 clips and 2 supervise flags; the numbers must be",
        ),
        ({"codes": [torch.zeros((0, 8), dtype=torch.int16)]}, r"row 17: codes of shape \(0, 8\), not \(T, 8\)"),
        ({"codes": [torch.zeros((4, 7), dtype=torch.int16)]}, r"row 17: codes of shape \(4, 7\), not \(T, 8\)"),
        ({"codes": [torch.zeros(8, dtype=torch.int16)]}, r"row 17: codes of shape \(8,\), not \(T, 8\)"),
        ({"codes": [torch.full((2, 8), 1024)]}, "row 17: codes outside 0 .. 1023"),
        ({"codes": [torch.full((2, 8), -1)]}, "row 17: codes outside 0 .. 1023"),
    ],
)
def test_invalid_sample_is_refused_with_its_row(bad, message):
    with pytest.raises(ValueError, match=message):
        HiggsCollator(CONFIG)([sample(), sample(**bad)])


def test_sample_longer_than_the_packed_row_is_refused_with_its_row():
    with pytest.raises(ValueError, match="row 17: 13 positions do not fit pack_to=12; raise it"):
        HiggsCollator(CONFIG, pack_to=12)([sample()])
    assert HiggsCollator(CONFIG, pack_to=13)([sample()])["input_ids"].shape == (1, 13)


def test_sample_without_a_row_index_is_refused():
    bad = sample(labels=[6])
    del bad["row_index"]
    with pytest.raises(ValueError, match="^sample: 1 labels for 3 input_ids"):
        HiggsCollator(CONFIG)([bad])


def long_sample(**changes) -> dict:
    """A reference clip and a supervised clip, of 400 steps each."""
    clips = torch.randint(0, 1024, (2, 400, 8), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    ids = {"input_ids": torch.tensor([5, AUDIO, AUDIO, 6]), "labels": torch.tensor([-100, -100, -100, 6])}
    return sample(codes=list(clips), supervise=[False, True]) | ids | changes


def test_code_dropout_replaces_whole_steps_in_the_input_of_the_supervised_clip():
    plain, noisy = HiggsCollator(CONFIG)([long_sample()]), HiggsCollator(CONFIG, code_dropout=0.25)([long_sample()])
    for name in PADDED_KEYS - {"audio_input_ids"}:
        assert torch.equal(noisy[name], plain[name]), name
    before, after = plain["audio_input_ids"][0], noisy["audio_input_ids"][0]  # (F, C)
    assert torch.equal(after[:409], before[:409])  # the reference clip
    codes, read = undelay_frames(before[409:]), undelay_frames(after[409:])
    assert torch.equal(delay_codes(read), after[409:])  # the BOS and EOS rows are unchanged
    is_changed = (codes != read).sum(dim=1)  # one of 8 random codes may equal the old code by chance
    assert set(is_changed.tolist()) <= {0, 7, 8}
    assert 75 <= int((is_changed > 0).sum()) <= 125  # 3 standard deviations around 100
    random_codes = read[is_changed > 0]
    assert 0 <= int(random_codes.min()) < 16 and 1008 < int(random_codes.max()) <= 1023


def test_code_dropout_depends_only_on_seed_epoch_and_row():
    def read(*samples: dict, epoch: int = 0, seed: int = 0, **fields) -> torch.Tensor:
        collator = HiggsCollator(CONFIG, code_dropout=0.25, seed=seed, **fields)
        collator.set_epoch(epoch)
        return collator(list(samples))["audio_input_ids"][0, :818]

    first = read(long_sample())
    assert torch.equal(first, read(long_sample(), sample()))
    assert torch.equal(first, read(long_sample(), sample(), pack_to=1000))
    assert torch.equal(first, read(long_sample(row_index=17)))
    for other in (read(long_sample(row_index=18)), read(long_sample(), epoch=1), read(long_sample(), seed=1)):
        assert not torch.equal(first, other)


def test_code_dropout_needs_row_indexes():
    unnamed = {name: value for name, value in sample().items() if name != "row_index"}
    with pytest.raises(ValueError, match="code_dropout needs samples with their row_index"):
        HiggsCollator(CONFIG, code_dropout=0.1)([unnamed])
