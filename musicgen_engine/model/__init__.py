"""The model's arithmetic in torch: transformer, sampler, codec.

```
backend            the seam: ModelInput → logits; what may compute them
backend_loader     chooses a backend and lets it prove itself → proof
decoder            the seam above: running sequences → their next codes, by a backend's logits
graph              the same on a GPU, captured → decode_state, decode_step
transformer        the model over a KV cache → segment_pass, attention, linear, positions, kv_cache
native             the same in native code
conditioning       what a sequence is conditioned on
sampler            logits → codes → guidance, rng
native_sampler     the same in native code
delay_pattern      where codes stand in the model's input (no torch)
streaming_codec    codes → audio, as a stream
native_codec       the same in native code
```
"""
