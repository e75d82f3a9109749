"""Write docs/parameters.md: the parameters of both nodes."""

from __future__ import annotations

import sys

from fusion_perception.ros import node_settings, sensor_sim
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.ros.parameter_files import as_table
from fusion_perception.ros.sensor_sim import SensorSimSettings


def as_page() -> str:
    """Return the page, in Markdown."""
    return f"""# Parameters of the fusion node

From the same source as [config/fusion.yaml](../config/fusion.yaml); `make parameters`
writes both. Those that can change do so while the node runs (`ros2 param set`); others
before it is configured, and some only where it is started.

{as_table(NodeSettings, node_settings.LIVE, node_settings.READ_ONLY)}

# Parameters of the simulated sensor

`sensor_sim` takes these where it is started; its faults can be changed at any time, unless a
`scenario` says what is wrong and when.

{as_table(SensorSimSettings, sensor_sim.LIVE, sensor_sim.READ_ONLY)}
"""


if __name__ == '__main__':
    sys.stdout.write(as_page())
