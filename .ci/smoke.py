"""Install a built wheel into a fresh environment, as a device would, and check that it starts.

    python .ci/smoke.py dist/edge_prompt-0.1.0-py3-none-any.whl onnxruntime

The environment holds the wheel, one extra and their locked dependencies, and nothing of this checkout.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "constraints.txt"

CHECK = """
import sys
import edge_prompt, edge_prompt_runtime, {engine}
assert edge_prompt.__version__ == {version!r}, edge_prompt.__version__
assert callable(edge_prompt_runtime.Runtime)
assert "torch" not in sys.modules and "transformers" not in sys.modules
print("edge-prompt", edge_prompt.__version__, "on {engine}", {engine}.__version__, "and Python", sys.version.split()[0])
"""


def main(wheel: Path, extra: str) -> None:
    """Install `wheel` with the extra `extra`, import the runtime and run the command line."""
    version = wheel.name.split("-")[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps loaded libraries open
        venv.create(folder, with_pip=True)
        programs, suffix = ("Scripts", ".exe") if sys.platform == "win32" else ("bin", "")

        def run(program: str, *arguments: str) -> None:
            path = Path(folder) / programs / f"{program}{suffix}"
            subprocess.run([path, *arguments], check=True, cwd=folder)  # noqa: S603 - our own arguments

        run("python", "-m", "pip", "install", "--quiet", "-c", str(LOCK), f"{wheel.resolve()}[{extra}]")
        run("python", "-I", "-c", CHECK.format(engine=extra, version=version))
        run("edge-prompt", "--version")
        run("edge-prompt", "--help")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
