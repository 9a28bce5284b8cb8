"""The modality of image backbones."""
