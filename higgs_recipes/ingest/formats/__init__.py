"""Layouts that corpora come in: one module each, whose `read_<format>(source)` gives its rows as they stand there.

A row that cannot be read is a `Reject` that says where it stands.
"""
