"""Measures musicgen-tiny: `python -m training.evaluation.adherence`, `.changes`, and others."""
