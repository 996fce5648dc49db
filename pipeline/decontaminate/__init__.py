"""Decontamination: train records that hold a question, or a worked solution, of an eval source are dropped."""
