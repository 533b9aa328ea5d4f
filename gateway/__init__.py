"""The HTTP side: JSON in, WAV out, Triton behind."""
