"""The contract that gateway and engine share, and what both need beside it. It imports neither of
them, and no torch.

```
constants   frame rate, sample rate, limits of audio
fields      rows of the table of request fields: type, range, default, one sentence
request     GenerationRequest: the table itself, and the checks between fields
prompt      a text, or a blend of texts
section     a part of a song, with its own prompt and settings
parser      values by the names of the table → a checked request
tensors     the same fields as Triton's inputs; the outputs
variant     a model of the repository, as its catalogue lists it
errors      every error: its code, HTTP status and Triton code
settings    the environment's variables, read and checked
channel     gRPC channels to Triton
tls         certificates between gateway and Triton
tracing     spans for OpenTelemetry
logs        the bound on a line of a log
```
"""
