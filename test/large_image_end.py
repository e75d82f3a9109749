"""One end of a stream of large images: `talk WIDTH HEIGHT COUNT HZ` or `hear COUNT PATIENCE_S`.

The hearing end prints how many whole images came and their p50 latency in milliseconds.
"""

import array
import statistics
import sys
import time

import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image


def talk(node, width, height, count, hz):
    pixels = array.array('B')
    pixels.frombytes(bytes(3 * width * height))
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width, data=pixels)
    publisher = node.create_publisher(Image, 'large', qos_profile_sensor_data)
    # The other end ends first: its subscription comes, and at last goes again.
    while not publisher.get_subscription_count():
        time.sleep(0.02)
    began = time.monotonic()
    for number in range(count):
        stamp = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        publisher.publish(message)
        time.sleep(max(0.0, began + (number + 1) / hz - time.monotonic()))
    while publisher.get_subscription_count():
        time.sleep(0.02)


def hear(node, count, patience_s):
    latencies_ms = []

    def on_image(message):
        if len(message.data) == message.height * message.step:
            stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            latencies_ms.append((time.time_ns() - stamp) / 1e6)

    node.create_subscription(Image, 'large', on_image, qos_profile_sensor_data)
    end = time.monotonic() + patience_s
    while len(latencies_ms) < count and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    p50 = statistics.median(latencies_ms) if latencies_ms else float('nan')
    sys.stdout.write(f'{len(latencies_ms)} {p50:.1f}\n')


if __name__ == '__main__':
    rclpy.init(args=[])
    end = {'talk': talk, 'hear': hear}[sys.argv[1]]
    end(rclpy.create_node(sys.argv[1]), *(int(argument) for argument in sys.argv[2:]))
    rclpy.shutdown()
