"""The folder of an imported corpus, and errors of recipes."""

import json
import shutil
import sys

import pytest

from higgs_recipes.audio.io import read_audio
from higgs_recipes.configs.corpus import ExportConfig, ImportConfig
from higgs_recipes.corpus.corpus import load_rows
from higgs_recipes.corpus.sources import link_roots
from higgs_recipes.corpus.sources.source import open_sources
from higgs_recipes.corpus.task_assignment import assign_tasks
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.export_corpus import export_corpus
from higgs_recipes.ingest.import_corpus import import_corpus
from higgs_recipes.ingest.raw_recordings import find_raw_recordings
from scripts import export_corpus as export_script
from scripts import import_corpus as import_script
from tests.helpers.corpus_folder import encode_config
from tests.helpers.higgs_folder import full_folder
from tests.helpers.import_folder import imported, write_tones
from tests.helpers.raw_folder import CLIPS, segment_config


def test_encode_reads_an_imported_corpus(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("00_heart.flac", "01_rms.flac"):
        shutil.copy(CLIPS / name, folder)
    (folder / "all.list").write_text(
        "00_heart.flac|heart|en|The birch canoe slid.\n01_rms.flac|rms|en|Glue the sheet.\n"
    )
    for copy_audio in (True, False):
        source = {"path": str(folder / "all.list"), "scene": "quiet_room"}
        imported(tmp_path / "out", format="gpt_sovits", sources=[source], copy_audio=copy_audio)
        assert (tmp_path / "out/audio/00_heart.flac").is_symlink() is not copy_audio
        rows = load_rows(encode_config(tmp_path / "out")).rows
        assert [(row["id"], row["speaker"], row["language"], row["scene"]) for row in rows] == [
            ("00_heart", "heart", "en", "Audio is recorded from a quiet room."),
            ("01_rms", "rms", "en", "Audio is recorded from a quiet room."),
        ]
    assert sorted(path.name for path in folder.iterdir()) == ["00_heart.flac", "01_rms.flac", "all.list"]


def test_reference_clips_are_in_the_imported_corpus(tmp_path):
    folder = full_folder(tmp_path / "higgs")
    imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)])
    (source,) = open_sources(encode_config(tmp_path / "out"))
    rows = [source.row(index) for index in range(4)]
    assert rows[1]["ref_text"] == "我是火君。"
    clips = [rows[1]["ref_audio"], *(speaker["ref_audio"] for speaker in rows[2]["ref_speakers"])]
    assert [len(read_audio(clip, name="reference")) for clip in clips] == [12_000] * 3


def test_encode_keeps_the_tasks_of_an_imported_corpus(tmp_path):
    imported(tmp_path / "out", format="train_higgs_audio", sources=[str(full_folder(tmp_path / "higgs"))])
    config = encode_config(tmp_path / "out", test_size=0)
    corpus = load_rows(config)
    rows = assign_tasks(corpus, corpus.rows, config, split="train")
    assert {row["id"]: (row["task"], row["ref_texts"]) for row in rows} == {
        "huo_000000": ("single_speaker_smart_voice", []),
        "huo_000001": ("zero_shot_voice_cloning", ["我是火君."]),
        "huo_000002": ("multi_speaker_voice_cloning", ["I am 0.", "I am 1."]),
        "huo_000003": ("single_speaker_smart_voice", []),
    }
    scene = json.loads(rows[0]["messages"])[1]["content"][0]["text"]
    assert scene == "Audio is recorded from a recording system. The speaker sounds alerting."


def test_import_json_has_counts_and_recipe(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    (folder / "all.list").write_text("a.wav|x|en|Hello.\nb.wav|x|en|Bye.\nc.wav|x|en|No.\nd.wav|x|en|No.\n")
    config = ImportConfig(format="gpt_sovits", sources=[str(folder / "all.list")], output_dir=str(tmp_path / "out"))
    record = import_corpus(config)
    assert record == json.loads((tmp_path / "out/import.json").read_text())
    assert (record["rows"], record["seconds"], record["rejects"]) == (2, 0.8, {"recording cannot be read": 2})
    assert record["recipe"]["format"] == "gpt_sovits"
    with pytest.raises(InputError, match="out exists and is not empty"):
        import_corpus(config)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sources": ["x"]}, "format is missing"),
        ({"format": "f5"}, "sources is empty"),
        ({"format": "f5", "sources": ["nowhere.csv"]}, "no such file or folder: nowhere.csv"),
        ({"format": "f5", "sources": ["."]}, r"\. is not a list file; format f5 needs one"),
        ({"format": "vctk", "sources": [__file__]}, "is not a folder; format vctk needs one"),
        ({"format": "f5", "sources": [{"path": "x", "speker": "y"}]}, r"unknown key \['speker'\]"),
        ({"format": "f5", "sources": [{"speaker": "y"}]}, "path of .* must be a string"),
        ({"format": "f5", "sources": ["x"], "columns": "a: b"}, "columns must be a mapping"),
    ],
)
def test_errors_of_recipes(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        import_corpus(ImportConfig(output_dir=str(tmp_path / "out"), **fields))


def test_a_failed_import_leaves_no_files(tmp_path):
    (tmp_path / "all.list").write_text("a.wav|x|en|Hello.\n")
    with pytest.raises(InputError, match=r"all 1 rows were rejected: \{'recording cannot be read': 1\}; .*'line': 1"):
        imported(tmp_path / "out", format="gpt_sovits", sources=[str(tmp_path / "all.list")])
    assert [path.name for path in tmp_path.iterdir()] == ["all.list"]


def test_the_scripts_print_the_folder_and_counts(tmp_path, monkeypatch, capsys):
    folder = full_folder(tmp_path / "higgs")
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    flags = ["import_corpus.py", "--format", "train_higgs_audio", "--sources", str(folder), "--output_dir", out]
    monkeypatch.setattr(sys, "argv", flags)
    import_script.main()
    monkeypatch.setattr(sys, "argv", ["export_corpus.py", "--source", out, "--output_dir", back])
    export_script.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f"corpus: {out}: 4 rows, 0.00 hours; 0 rejected, see rejects.jsonl",
        f"exported: {back}: 4 rows",
    ]


def linked_corpora(tmp_path) -> list[tuple[str, str]]:
    """(format, source) of corpora of a stranger that link to a private recording and to a private text."""
    write_tones(tmp_path, "private.wav", "own.wav")
    (tmp_path / "private.txt").write_text("A secret.")
    for place in ("lists", "kaldi", "libri/84/1", "vctk/wav48/p1", "vctk/txt/p1", "pairs"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "lists/a.list").write_text("a.wav|x|en|Hello.\n")
    (tmp_path / "kaldi/text").write_text("a Hello.\n")
    (tmp_path / "kaldi/wav.scp").write_text("a ../kaldi/a.wav\n")
    (tmp_path / "libri/84/1/84_1_0.normalized.txt").write_text("Hello.")
    (tmp_path / "pairs/b.txt").write_text("Hello.")
    links = {"lists/a.wav": "wav", "kaldi/a.wav": "wav", "libri/84/1/84_1_0.wav": "wav", "pairs/b.wav": "wav"}
    links |= {"pairs/c.txt": "txt", "vctk/txt/p1/p1_1.txt": "txt"}
    for name, suffix in links.items():
        (tmp_path / name).symlink_to(tmp_path / f"private.{suffix}")
    for name in ("pairs/c.wav", "vctk/wav48/p1/p1_1.wav"):
        shutil.copy(tmp_path / "own.wav", tmp_path / name)
    names = {"gpt_sovits": "lists/a.list", "kaldi": "kaldi", "libritts": "libri", "vctk": "vctk"}
    return [(format, str(tmp_path / name)) for format, name in (names | {"train_higgs_audio": "pairs"}).items()]


def test_links_of_a_stranger_are_rejects_in_every_format(tmp_path):
    for format, source in linked_corpora(tmp_path):
        with pytest.raises(InputError, match="is a link to a file outside; copy .*, or set follow_links: true"):
            imported(tmp_path / "out", format=format, sources=[source])


def test_links_are_followed_with_follow_links_and_encode_reads_what_import_linked_to(tmp_path):
    for format, source in linked_corpora(tmp_path):
        rows, _ = imported(tmp_path / "out", format=format, sources=[source], follow_links=True)
        assert rows and load_rows(encode_config(tmp_path / "out")).rows
    (tmp_path / "out" / rows[0]["file_name"]).unlink()
    (tmp_path / "out" / rows[0]["file_name"]).symlink_to("/etc/hostname")
    (reject,) = load_rows(encode_config(tmp_path / "out")).rejects
    assert "is a link to a file outside; copy the recording into it" in reject.reason


def test_a_list_that_is_a_link_to_a_file_outside_is_refused(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,Hello.\n")
    (folder / "metadata.csv").symlink_to("../metadata.csv")
    fields = {"format": "audiofolder", "sources": [str(folder)]}
    with pytest.raises(InputError, match="metadata.csv is a link to a file outside"):
        imported(tmp_path / "out", **fields)
    rows, _ = imported(tmp_path / "out", **fields, follow_links=True)
    assert [row["text"] for row in rows] == ["Hello."]


def test_links_need_a_record_that_can_be_written(tmp_path, monkeypatch):
    folder = write_tones(tmp_path / "in", "a.wav")
    (folder / "a.list").write_text("a.wav|x|en|Hello.")
    (tmp_path / "file").touch()
    monkeypatch.setattr(link_roots, "RECORDS", tmp_path / "file/imports")
    fields = {"format": "gpt_sovits", "sources": [str(folder / "a.list")]}
    with pytest.raises(InputError, match="cannot be written .*, and encode would refuse the links of this import"):
        imported(tmp_path / "out", **fields)
    assert imported(tmp_path / "out", **fields, copy_audio=True)[0]


def test_no_command_overwrites_its_source(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "audio/b.wav")
    (folder / "a.list").write_text("a.wav|x|en|Hello.")
    (folder / "metadata.csv").write_text("file_name,text\na.wav,Hello.\n")
    fields = {"overwrite_output_dir": True}
    for output_dir in (folder, tmp_path):
        out = {"output_dir": str(output_dir)} | fields
        for format, source in (("gpt_sovits", folder / "a.list"), ("audiofolder", folder)):
            with pytest.raises(InputError, match="contains the source"):
                import_corpus(ImportConfig(format=format, sources=[str(source)], **out))
        with pytest.raises(InputError, match="contains the source"):
            import_corpus(
                ImportConfig(format="gpt_sovits", sources=[str(folder / "a.list")], audio_dir=str(folder), **out)
            )
        with pytest.raises(InputError, match="contains the source"):
            export_corpus(ExportConfig(source=str(folder), **out))
        with pytest.raises(InputError, match="contains the source"):
            find_raw_recordings(segment_config(folder, **out))
    audio = {"audio_dir": str(folder / "audio"), "output_dir": str(folder / "audio")} | fields
    with pytest.raises(InputError, match="contains the source"):
        import_corpus(ImportConfig(format="gpt_sovits", sources=[str(folder / "a.list")], **audio))
    assert (folder / "a.wav").is_file() and (folder / "audio/b.wav").is_file()
