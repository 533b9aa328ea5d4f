# Triton looks for this name.
from musicgen_engine.stub.front import FrontModel as TritonPythonModel
