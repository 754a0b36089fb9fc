"""Where negatives are cut from: one file per layout of images with instances, recognised by what a folder holds."""

from strays.negatives.sources.base import Instance, InstanceImage, InstanceSource, open_instances, register_source

__all__ = ["Instance", "InstanceImage", "InstanceSource", "open_instances", "register_source"]
