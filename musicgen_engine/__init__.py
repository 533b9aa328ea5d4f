"""MusicGen in NVIDIA Triton: a thin stub that Triton runs, and the engine process behind it.

```
model_repository/<variant>/1/model.py
    → stub      tensors ↔ requests; starts, watches and restarts the engine; no torch
    ⇄ channel   messages over a socket pair
    → core      the engine process: scheduler → backend → sampler → codec
    → model     the arithmetic in torch
```
"""
