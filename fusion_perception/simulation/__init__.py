"""Simulate what a camera and a LiDAR see of simple scenes."""
