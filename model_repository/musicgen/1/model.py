# What Triton looks for.
from musicgen_engine.triton_front import TritonPythonModel
