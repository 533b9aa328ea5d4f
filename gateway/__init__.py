"""The HTTP side: JSON in, audio files out, Triton behind."""

__version__ = "1.0.0"
