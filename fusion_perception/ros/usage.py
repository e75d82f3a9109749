"""Say how the executables are called. Needs no ROS, so that it is said at once."""

USAGE = {
    'fusion_node': """\
usage: fusion_node [--ros-args [-p NAME:=VALUE ...] [-r FROM:=TO ...] [--params-file FILE]]

Predicts object centres from a camera and a LiDAR, and publishes them on ~/centers.

inputs, to be remapped with -r:
  image        sensor_msgs/Image; image/compressed with -p image_type:=compressed
  range_image  sensor_msgs/Image; points (PointCloud2) with -p lidar_type:=points
  camera_info  sensor_msgs/CameraInfo

example:
  fusion_node --ros-args -p bundle:=cubes -r image:=camera/image_raw \\
      -r camera_info:=camera/camera_info -r range_image:=lidar/range_image

Parameters: docs/parameters.md, config/fusion.yaml. Outputs: docs/outputs.md.
`fusion doctor --live` says why nothing comes out.
""",
    'sensor_sim': """\
usage: sensor_sim [--ros-args [-p NAME:=VALUE ...] [-r FROM:=TO ...] [--params-file FILE]]

Publishes what a camera and a LiDAR see of a moving scene, and the true centres:
camera/image_raw, camera/camera_info, lidar/range_image, ground_truth/centers.

example:
  sensor_sim --ros-args -p task:=cubes -p lidar_hz:=20.0

Parameters: docs/parameters.md.
""",
}
