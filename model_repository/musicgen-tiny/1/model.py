# What Triton looks for; config.pbtxt names the checkpoint.
from musicgen_engine.triton_model import TritonPythonModel
