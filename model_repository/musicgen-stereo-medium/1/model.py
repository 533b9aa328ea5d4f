# What Triton looks for; config.pbtxt names the checkpoint.
from musicgen_engine.stub.variant import TritonPythonModel
