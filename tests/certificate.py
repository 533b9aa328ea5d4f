"""A certificate for the TLS between gateway and Triton, made as docs/operations.md says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

OPERATIONS = Path(__file__).parent.parent / "docs" / "operations.md"


def certificate(folder: Path, name: str = "triton") -> Path:
    """The folder `tls` that the commands of the document make in `folder`."""
    if not shutil.which("openssl"):  # with which the document makes it
        pytest.skip("this machine has no openssl")
    [commands] = re.findall(r"```bash\n(mkdir -p tls\n.+?)```", OPERATIONS.read_text(), re.DOTALL)
    folder.mkdir(exist_ok=True)
    commands = commands.replace("DNS:triton", f"DNS:{name}")
    subprocess.run(["bash", "-ec", commands], cwd=folder, check=True, capture_output=True)
    return folder / "tls"
