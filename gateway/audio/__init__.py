"""Audio files: the encoders of songs, and the decoder of the files that clients send."""
