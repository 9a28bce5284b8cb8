"""Images: read, resized, cropped, normalised and padded as the backbone's configuration says.

Importing this package does not import Pillow; the first image does.
"""

from edge_prompt_runtime.inputs.image.files import read_image
from edge_prompt_runtime.inputs.image.transforms import (
    ImageBatch,
    ImageSizes,
    PreparedImage,
    prepare_image,
    prepare_images,
    preprocess,
)

__all__ = ["ImageBatch", "ImageSizes", "PreparedImage", "prepare_image", "prepare_images", "preprocess", "read_image"]
