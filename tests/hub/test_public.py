import pytest

from higgs_recipes.hub.public import is_hub_id, public_name, public_path, public_record, with_revision


def test_a_hub_id_has_a_user_and_is_not_a_local_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "corpus").mkdir(parents=True)
    assert is_hub_id("user/my-voice_1.0")
    for name in ("outputs/corpus", "voice", "a/b/c", "./voice", "../voice", "/voice", "a/b c", ""):
        assert not is_hub_id(name)


def test_a_local_folder_is_published_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "corpus").mkdir(parents=True)
    assert public_name("outputs/corpus") == "corpus" and public_name("user/corpus") == "user/corpus"
    assert public_name(str(tmp_path / "corpus")) == "corpus"
    assert with_revision("user/corpus", "abc") == "user/corpus @ abc"
    assert with_revision("/home/someone/corpus", "abc") == "corpus @ abc"


@pytest.mark.parametrize(
    "path, public",
    [
        ("user/voice", "user/voice"),
        ("outputs/voice/best", "outputs/voice/best"),
        ("/home/someone/voice", "voice"),
        ("outputs/../../voice", "voice"),
        ("~someone/voice", "voice"),
        ("a text with spaces.", "a text with spaces."),
    ],
)
def test_paths_outside_the_working_folder_are_published_by_their_name(path, public):
    assert public_path(path) == public


def test_a_record_is_published_without_local_paths_at_any_depth():
    record = {"sources": [{"path": "/data/wavs", "weight": 2}], "pair": ("~/a", "b/c"), "seed": 0, "none": None}
    assert public_record(record) == {
        "sources": [{"path": "wavs", "weight": 2}],
        "pair": ["a", "b/c"],
        "seed": 0,
        "none": None,
    }
    assert record["sources"][0]["path"] == "/data/wavs"
