"""Fuse a camera image and a LiDAR range image into 3D object centres."""

__version__ = '0.1.0'
