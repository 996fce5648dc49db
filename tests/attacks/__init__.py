"""Attacks on what Millrace reads: damaged and hostile files, and what the reader concerned does with each.

    rules of mutation ─▶ Attack ─ applied to a copy of a sound dataset, checkpoint or file ─▶ reader ─▶ Verdict

`python -m tests.attacks` makes all of them and prints a table by kind; the tests make the named ones and a sample.
"""
