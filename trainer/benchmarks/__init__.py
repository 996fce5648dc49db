"""Benchmarks: questions of published test sets, asked and scored by a fixed protocol.

    files ─ tasks/ ─▶ questions ─ run ─▶ answers and verdicts in a journal ─ results ─▶ results.json, questions.parquet
                                   └─ answerer: prompts, tags, generation               table, index.html

`trainer.benchmark` is the command.
"""
