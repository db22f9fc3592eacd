"""The Python way: mcap reader, LeRobotDataset.add_frame, save_episode. convert.py RECORDING OUT MODE

MODE "default" is what LeRobotDataset does by itself: every picture becomes a PNG file, written by four threads a camera
as its recorder has them, and the videos are encoded from these. "streaming" encodes while frames are added.
Prints one line of JSON: rows, seconds (imports left out).
"""

import io
import json
import sys
import time
from pathlib import Path

import numpy as np
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from mcap_ros2.reader import read_ros2_messages
from PIL import Image

FPS = 30
JOINTS = "/joint_states"
TOPICS = 4


def samples(recording):
    """Topic, time in ns, and value of every message in log order."""
    for message in read_ros2_messages(recording):
        topic, ros = message.channel.topic, message.ros_msg
        stamp = ros.header.stamp.sec * 1_000_000_000 + ros.header.stamp.nanosec
        if topic == JOINTS:
            yield topic, stamp, np.asarray(ros.position, dtype=np.float32), list(ros.name)
        elif topic.endswith("/image_raw/compressed"):
            yield topic, stamp, bytes(ros.data), None


def rows(recording):
    """A row for every time of the grid: of each topic the latest sample that is not after it."""
    latest, last, names, row, start = {}, {}, None, 0, None
    for topic, stamp, value, joint_names in samples(recording):
        names = names or joint_names
        last[topic] = stamp
        if start is None:
            latest[topic] = value
            if len(latest) == TOPICS:
                start = max(last.values())
            continue
        while stamp > start + round(row * 1e9 / FPS):
            yield dict(latest), names
            row += 1
        latest[topic] = value
    if start + round(row * 1e9 / FPS) <= min(last.values()):
        yield dict(latest), names


def main(recording, out, mode):
    started = time.perf_counter()
    dataset, count = None, 0
    for values, names in rows(recording):
        pictures = {
            topic.split("/")[1]: np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            for topic, data in values.items()
            if topic != JOINTS
        }
        if dataset is None:
            dataset = create(out, mode, pictures, names)
        frame = {f"observation.images.{camera}": picture for camera, picture in pictures.items()}
        dataset.add_frame({**frame, "observation.state": values[JOINTS], "task": "Move."})
        count += 1
    dataset.save_episode()
    dataset.finalize()
    print(json.dumps({"rows": count, "seconds": time.perf_counter() - started}))


def create(out, mode, pictures, names):
    features = {
        f"observation.images.{camera}": {
            "dtype": "video",
            "shape": picture.shape,
            "names": ["height", "width", "channels"],
        }
        for camera, picture in sorted(pictures.items())
    }
    features["observation.state"] = {"dtype": "float32", "shape": (len(names),), "names": names}
    video = RGBEncoderConfig(vcodec="h264", crf=23, g=2, preset="veryfast", extra_options={"bf": 0})
    streaming = mode == "streaming"
    return LeRobotDataset.create(
        repo_id="bench/compare",
        root=Path(out),
        fps=FPS,
        features=features,
        rgb_encoder=video,
        streaming_encoding=streaming,
        encoder_queue_maxsize=100_000,
        encoder_threads=2,
        image_writer_threads=0 if streaming else 4 * len(pictures),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
