"""The contract that gateway and engine share. It needs nothing but the standard library and numpy.

```
constants   frame rate, sample rate, limits of audio
fields      rows of the table of request fields: type, range, default, one sentence
request     GenerationRequest: the table itself, and the checks between fields
tensors     the same fields as Triton's inputs; the outputs
variant     a model of the repository, as its catalogue lists it
errors      every error: its code, HTTP status and Triton code
settings    the environment's variables, read and checked
```
"""
