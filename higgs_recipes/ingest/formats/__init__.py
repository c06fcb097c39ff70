"""Layouts that corpora come in: one module each, whose `read_<format>(source)` gives its rows as they stand there.

A row says where it stands ("file", "line" counted from 1) and has "audio" (a path as the source writes it, relative to
the source's folder) and "text". Where the layout has them: "id", "speaker", "speaker_name", "language", "gender",
"scene", "emotion", "ref_audio", "ref_text", "ref_speakers" ({"speaker_tag", "ref_text", "ref_audio"} each), "task",
"user_instruction", "quality_score", "original_audio_path", "segment" (start and end in seconds, where the clip is a
part of the file), and "fields": what else the source calls by a name of its own. A row that cannot be read has "file",
"line" and "reason" instead. Up to the first colon, semicolon or bracket reasons are alike: they are counted by that.
"""
