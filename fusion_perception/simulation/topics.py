"""Name the topics of the simulated sensor, which are those of the recordings made of it."""

IMAGE, CAMERA_INFO = '/camera/image_raw', '/camera/camera_info'
RANGES, TRUTH = '/lidar/range_image', '/ground_truth/centers'
# The inputs of a fusion node, by its own names for them.
INPUTS = {'image': IMAGE, 'camera_info': CAMERA_INFO, 'range_image': RANGES}
