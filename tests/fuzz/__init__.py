"""Fuzzing of every reader of foreign bytes: valid files, broken in ways that follow their structure.

    examples ─ a strategy of hypothesis: rows ─ writer ─▶ valid file ─ broken by `mutations` ─▶ reader ─▶ allowed end

`readers.py` lists the readers and how each may end. `test_fuzz.py` runs them with a fixed seed, `python -m tests.fuzz`
for as long as asked.
"""
