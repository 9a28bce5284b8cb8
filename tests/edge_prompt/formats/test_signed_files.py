from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edge_prompt.base.errors import TrustError
from edge_prompt.formats.signed_files import read_signed_prompt, signature_path, unknown_files
from edge_prompt.storage.files import sha256_of
from edge_prompt.untrusted.npy import write_npy


class SignedByHand:
    """Signatures that consist of digests alone."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files
        self.asked: list[Path] = []

    def require(self, signature: Path, files: Mapping[str, str]) -> None:
        self.asked.append(signature)
        if files != self.files:
            raise TrustError(found=f"{signature} of something else", wanted="the files", remedy="sign them")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.b.npy"
    write_npy(path, np.ones((2, 3), np.float32))
    return path


def test_a_prompt_is_compared_with_its_signature(path: Path) -> None:
    signatures = SignedByHand({"a.b.npy": sha256_of(path)})
    assert read_signed_prompt(path, signatures).array.shape == (2, 3)
    assert signatures.asked == [path.with_name("a.b.sig")] == [signature_path(path)]


def test_a_prompt_that_was_not_signed_is_refused(path: Path) -> None:
    with pytest.raises(TrustError):
        read_signed_prompt(path, SignedByHand({"a.b.npy": "0" * 64}))
    assert read_signed_prompt(path, None).array.shape == (2, 3)


def test_a_prompt_that_is_replaced_while_it_is_read_is_read_again(path: Path) -> None:
    class ReplacedMeanwhile(SignedByHand):
        def require(self, signature: Path, files: Mapping[str, str]) -> None:
            if not self.asked:
                write_npy(path, np.zeros((2, 4), np.float32))
                self.files = {"a.b.npy": sha256_of(path)}
            super().require(signature, files)

    assert read_signed_prompt(path, ReplacedMeanwhile({})).array.shape == (2, 4)


def test_unlisted_files_are_found(tmp_path: Path) -> None:
    for name in ("known", "apart/x", "unknown", "deep/known", "deep/unknown", "deep/apart", ".hidden", ".folder/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path)
    found = unknown_files(tmp_path, {"known", "deep/known"}, {"apart"})
    assert found == ["deep/apart", "deep/unknown", "link", "unknown"]
