"""Find who else is a fusion node, goes by one's name, or publishes on its output."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rclpy.node import Node
from rclpy.topic_endpoint_info import TopicEndpointInfo

from fusion_perception.sensing.findings.facts import GHOST_S

# An endpoint is discovered before its node is, and named so until then.
_NOT_YET_KNOWN = '_NODE_NAME_UNKNOWN_'


def full_name(endpoint: TopicEndpointInfo) -> str:
    """Return the name of an endpoint's node with its namespace."""
    return f'{endpoint.node_namespace.rstrip("/")}/{endpoint.node_name}'


class Others:
    """Watches for namesakes of a node that are no ghosts."""

    def __init__(self, node: Node, diagnostics: str) -> None:
        self._node, self._topic = node, diagnostics
        self._since: dict[bytes, float] = {}

    def namesakes(self) -> int:
        """Return how many others have had this node's name for long. Call it once per second.

        Each node has one publisher of diagnostics.
        """
        now, name = time.monotonic(), self._node.get_fully_qualified_name()
        self._since = {
            gid: self._since.get(gid, now)
            for info in self._node.get_publishers_info_by_topic(self._topic)
            if full_name(info) == name and (gid := bytes(info.endpoint_gid))
        }
        return max(0, sum(now - since >= GHOST_S for since in self._since.values()) - 1)


def fusion_nodes(node: Node) -> list[str]:
    """Return the full names of all fusion nodes, which alone have both of these services."""
    services = dict(node.get_service_names_and_types())
    names = [each.removesuffix('/enable') for each in services if each.endswith('/enable')]
    return sorted(name for name in names if f'{name}/change_state' in services)


def rivals(node: Node, topic: str, name: str) -> list[str]:
    """Return the full names of those who publish on a topic beside the nodes of that name."""
    return other_names(node.get_publishers_info_by_topic(topic), name) if topic else []


def other_names(endpoints: Iterable[TopicEndpointInfo], name: str) -> list[str]:
    """Return the full names of the nodes of endpoints, those that are known, but for that name."""
    known = {full_name(info) for info in endpoints if info.node_name != _NOT_YET_KNOWN}
    return sorted(known - {name})
