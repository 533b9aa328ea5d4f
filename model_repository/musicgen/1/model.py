# What Triton looks for.
from musicgen_engine.stub.front import TritonPythonModel
