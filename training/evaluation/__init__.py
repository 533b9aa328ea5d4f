"""Measures musicgen-tiny: `python -m training.evaluation.adherence`, `.endurance`, `.plots`."""
