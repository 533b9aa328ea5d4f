# Triton looks for this name; config.pbtxt names the checkpoint.
from musicgen_engine.stub.variant import VariantModel as TritonPythonModel
