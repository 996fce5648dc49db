"""Diagnostics of a model on held-out questions, as numbers, tables and an HTML page.

questions ─ one batch ─▶ depth (change per application), gradients (effect of truncation) ─▶ report ─▶ page
"""
