"""The certificate between gateway and Triton is checked before it is used."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.settings import Environment, SettingsError
from tests.certificate import certificate


def test_a_certificate_of_the_documents_is_good(tmp_path: Path) -> None:
    folder = certificate(tmp_path)
    assert Environment({"TRITON_TLS": str(folder)}).triton_tls() == folder


def test_no_folder_means_no_tls() -> None:
    assert Environment({"TRITON_TLS": " "}).triton_tls() is None


def without_key(folder: Path, _: Path) -> None:
    (folder / "tls.key").unlink()


def key_of_another(folder: Path, other: Path) -> None:
    shutil.copy(other / "tls.key", folder)


def authority_of_another(folder: Path, other: Path) -> None:
    shutil.copy(other / "ca.crt", folder)


def no_certificate(folder: Path, _: Path) -> None:
    (folder / "ca.crt").write_text("nothing")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_key, "No such file or directory"),
        (key_of_another, "key values mismatch"),
        (authority_of_another, "self-signed certificate"),
        (no_certificate, "no certificate or crl found"),
    ],
)
def test_a_wrong_folder_is_named(
    spoil: Callable[[Path, Path], None], reason: str, tmp_path: Path
) -> None:
    folder, other = certificate(tmp_path / "one"), certificate(tmp_path / "other")
    spoil(folder, other)
    with pytest.raises(SettingsError, match=rf"^TRITON_TLS='{folder}' is wrong: .*{reason}"):
        Environment({"TRITON_TLS": str(folder)}).triton_tls()


def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    folder = certificate(tmp_path, name="elsewhere")
    with pytest.raises(SettingsError, match="Hostname mismatch"):
        Environment({"TRITON_TLS": str(folder)}).triton_tls()
