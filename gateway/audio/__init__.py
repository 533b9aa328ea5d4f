"""Audio files: the encoders of songs, and the readers of the files that clients send."""
