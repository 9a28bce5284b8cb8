"""The writer of signatures, killed before each of its calls that change something: `python -m tests.plugs.signing`."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from edge_prompt import read_prompt
from edge_prompt.base.errors import TrustError
from edge_prompt.formats.signed_files import signature_path
from edge_prompt_runtime import Trust
from edge_prompt_runtime.commands.sign import sign_prompt
from edge_prompt_runtime.signing.signatures import ModelSignatures, key_signer
from tests.keys import write_key
from tests.plugs.stepping import step
from tests.plugs.writers import FILES, NEW, NEWEST, OLD, Step, Writer, prompt


def writers(keys: Path) -> dict[str, Writer]:
    """Sign an unsigned prompt, and a signed one again: the key of the signature tells the states apart."""
    pairs = {state: write_key(keys, f"key{state}") for state in (OLD, NEW, NEWEST)}
    trusted = {state: ModelSignatures(Trust.key(pair.public)) for state, pair in pairs.items()}

    def sign(state: int, folder: Path) -> None:
        sign_prompt(folder / "x.npy", key_signer(pairs[state].private))

    def signed(folder: Path) -> int:
        found = read_prompt(folder / "x.npy")
        if not signature_path(found.path).exists():
            return 0
        for state, signatures in trusted.items():
            try:
                signatures.require(signature_path(found.path), found.sha256)
            except TrustError:
                continue
            return state
        raise AssertionError

    def signed_already(folder: Path) -> None:
        prompt(OLD, folder)
        sign(OLD, folder)

    steps: dict[str, Step] = {"first signature": partial(prompt, OLD), "signature": signed_already}
    return {
        name: Writer(prepare, partial(sign, NEW), partial(sign, NEWEST), signed, NEW, NEWEST, FILES | {"x.sig"})
        for name, prepare in steps.items()
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        for name, writer in writers(Path(where)).items():
            print(step(name, writer), flush=True)  # noqa: T201 - a script
