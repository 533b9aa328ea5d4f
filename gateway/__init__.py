"""The HTTP side: JSON in, WAV out, Triton behind."""

__version__ = "1.0.0"
