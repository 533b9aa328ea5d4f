"""The code of Triton's stubs. It never imports torch.

```
variant         a variant: tensors ↔ requests
front           the model `musicgen`: relays to the variants
engine_process  starts, watches and restarts the engine process
fork_server     the process that engines are forked from, as stubs see it
tensors         between Triton's tensors and Python's values
metrics         the engine's metrics among Triton's own
```
"""
