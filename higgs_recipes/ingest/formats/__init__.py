"""One module per corpus format, whose `read_<format>(source, folder)` yields the rows of a source.

A row that cannot be read is a `Reject` with its file and line.
"""
