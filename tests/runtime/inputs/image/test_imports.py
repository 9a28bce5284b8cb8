from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["edge_prompt_runtime", "edge_prompt_runtime.inputs.image"])
def test_no_import_loads_pillow(package: str) -> None:
    code = f"import sys, {package}; assert 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_an_image_loads_no_more_decoders_than_are_used() -> None:
    code = (
        "import io, sys, numpy\nfrom edge_prompt_runtime.inputs.image import read_image\n"
        "from PIL import Image\nstream = io.BytesIO()\n"
        "read_image(numpy.zeros((4, 5), numpy.uint8)).save(stream, 'PNG')\nread_image(stream.getvalue())\n"
        "loaded = {name for name in sys.modules if name.startswith('PIL.')}\n"
        "assert not loaded & {'PIL.EpsImagePlugin', 'PIL.PdfImagePlugin', 'PIL.PsdImagePlugin'}, loaded\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
