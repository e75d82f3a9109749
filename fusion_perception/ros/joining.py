"""Join ROS, or say in a sentence why that cannot be."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import rclpy
from rclpy.context import Context
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

# The next step, by a part of what ROS says.
REMEDIES = {
    'parameter override rule': 'Give parameters as -p NAME:=VALUE.',
    'remap rule': 'Give other names as -r FROM:=TO. A namespace begins with a slash; names have '
    'letters, digits and underscores, and begin with no digit.',
    'params file': 'Check the path. In the file stand `/**:`, below it `ros__parameters:`, and '
    'below that a line for each parameter, as in config/fusion.yaml.',
    'log level': 'Known: debug, info, warn, error, fatal.',
    'log directory': 'Set ROS_LOG_DIR to a folder that can be written.',
    'ROS_DOMAIN_ID': 'Set it to a number from 0 to 101, or unset it.',
}
# With a larger one the ports of DDS leave their range (OMG DDSI-RTPS 2.5, 9.6.2), and Fast DDS
# ends the process itself.
LAST_DOMAIN = 232


def join(arguments: Sequence[str] = (), context: Context | None = None) -> None:
    """Initialise rclpy, without its signal handlers: signals belong to the process.

    `arguments` are those of a command line, without its program.
    Raises ValueError when one is not ROS's, and for what ROS cannot begin with.
    """
    given = list(arguments)
    try:
        # ROS would pass over what stands before --ros-args, and the node run without it.
        if strangers := remove_ros_args(given):
            raise ValueError(
                f"Unknown argument '{strangers[0]}'. Give parameters and topics as "
                '--ros-args -p NAME:=VALUE -r FROM:=TO; docs/parameters.md lists them.'
            )
        domain = os.environ.get('ROS_DOMAIN_ID', '')
        if domain.isdecimal() and int(domain) > LAST_DOMAIN:
            raise ValueError(_sentence(f'ROS_DOMAIN_ID = {domain} is beyond {LAST_DOMAIN}'))
        rclpy.init(args=given, context=context, signal_handler_options=SignalHandlerOptions.NO)
    except rclpy_implementation.UnknownROSArgsError as fault:
        raise ValueError(f'ROS does not know {fault} after --ros-args. Leave it out.') from None
    except rclpy_implementation.RCLError as fault:
        raise ValueError(_sentence(str(fault))) from None


def _sentence(said: str) -> str:
    # Each layer adds where in its source it was.
    fault = re.sub(r',? at /\S+:\d+', '', ' '.join(said.split()))
    remedy = next((remedy for part, remedy in REMEDIES.items() if part in fault), '')
    return f'ROS does not start: {fault.rstrip(". ")}. {remedy}'.rstrip()
