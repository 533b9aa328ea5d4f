"""The engine process. It alone imports torch, with `model`.

```
fork_server   has imported everything already; forks engines
__main__      an engine's process
server        messages in, audio and codes out
→ engine      the hot loop: schedule, encode, forward, sample, decode audio
→ scheduler   what each step does (no tensors)
→ sequence    one request on its way: codes, window, sections
→ audio_stream  codes → chunks of audio
← loaded_model  a checkpoint on its device, with slots
← checkpoint  audiocraft's files, taken apart
  text_encoder  texts → conditioning
  melody      a melody → the positions before the codes
  codec       audiocraft's compression model, taken apart
  separator_process  a process for each job of `separator`, which takes a melody out of a mix
  device      which device a model runs on
  memory      how many slots there is room for
  parent      a process ends with its parent
```

Only `checkpoint`, `text_encoder`, `melody` and `codec` import audiocraft.
"""
