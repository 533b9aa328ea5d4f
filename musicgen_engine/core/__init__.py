"""What runs in the engine process, and nowhere else: the only package that imports torch.

```
__main__      the process: songs in, audio out, over the channel
→ engine      the hot loop: admit, prefill a piece, step, sample, emit, retire
→ scheduler   whose turn it is (no tensors)
→ track       a song under way → window: where its codes stand in the model's input
→ decoder     the transformer, one step for everybody → sampler → noise
→ codec       codes → audio, as a stream
← checkpoint  the weights of all of it: the one module that touches audiocraft
```
"""
