"""MusicGen in NVIDIA Triton: the thin model that Triton runs, and the engine process behind it.

```
model_repository/<variant>/1/model.py
    → triton_model     tensors ↔ songs; never imports torch
    → engine_process   starts, watches and restarts the engine
    ⇄ channel          messages over a socket pair
    → engine           (a child process) scheduler → musicgen → audiocraft, torch
```
"""
