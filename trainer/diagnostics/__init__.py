"""What a model does inside, measured on held-out questions, and as a page.

questions ─ one batch ─▶ depth (what each application changes), gradients (what truncation leaves) ─▶ report ─▶ page
"""
