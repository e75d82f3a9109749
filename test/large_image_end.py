"""One end of a stream of large images: `talk WIDTH HEIGHT HZ` or `hear COUNT PATIENCE_S`.

The talking end numbers its images and goes on until nobody listens. The hearing end prints how
many whole images came of COUNT in a row, beginning with the first that it heard, and their p50
latency in milliseconds: what left while the ends were still finding each other does not count.
Its queue holds them all, so that what is lost was lost on the way and not by a busy machine.
"""

import array
import statistics
import sys
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image


def talk(node, width, height, hz):
    pixels = array.array('B')
    pixels.frombytes(bytes(3 * width * height))
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width, data=pixels)
    publisher = node.create_publisher(Image, 'large', qos_profile_sensor_data)
    while not publisher.get_subscription_count():
        time.sleep(0.02)
    began, number = time.monotonic(), 0
    # The other end ends first: its subscription goes again.
    while publisher.get_subscription_count():
        stamp = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        message.header.frame_id = str(number)
        publisher.publish(message)
        number += 1
        time.sleep(max(0.0, began + number / hz - time.monotonic()))


def hear(node, count, patience_s):
    latencies_ms, numbers = [], []

    def on_image(message):
        numbers.append(int(message.header.frame_id))
        if numbers[-1] - numbers[0] < count and len(message.data) == message.height * message.step:
            stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            latencies_ms.append((time.time_ns() - stamp) / 1e6)

    queue = QoSProfile(depth=2 * count, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, 'large', on_image, queue)
    end = time.monotonic() + patience_s
    while (not numbers or numbers[-1] - numbers[0] < count) and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    p50 = statistics.median(latencies_ms) if latencies_ms else float('nan')
    sys.stdout.write(f'{len(latencies_ms)} {p50:.1f}\n')


if __name__ == '__main__':
    rclpy.init(args=[])
    end = {'talk': talk, 'hear': hear}[sys.argv[1]]
    end(rclpy.create_node(sys.argv[1]), *(int(argument) for argument in sys.argv[2:]))
    rclpy.shutdown()
