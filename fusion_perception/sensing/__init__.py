"""Turn messages into observations, without knowing any ROS package."""
