"""Opens a dataset with the installed lerobot and checks what its reader returns.

Usage: read_dataset.py ROOT EXPECTED.json
EXPECTED: {"frames": N, "starts": [first row of each episode], "tasks": {"row": text}, "marked": key or null,
           "marks": [number drawn into each row's picture], "state": key, "first_state": [...]}
Prints one JSON line a check: {"id", "ok", "message"}; exits 1 when one fails.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402

try:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
except ImportError:
    from lerobot.common.datasets.lerobot_dataset import LeRobotDataset

root, expected = sys.argv[1], json.load(open(sys.argv[2]))
failed = False


def check(name, test):
    global failed
    try:
        message = test() or "as expected"
        ok = True
    except Exception as error:  # every failure of a reader is a finding
        message, ok = f"{type(error).__name__}: {error}", False
        failed = True
    print(json.dumps({"id": name, "ok": ok, "message": str(message)[:500]}), flush=True)


def mark_of(image):
    """Number drawn into a picture of 4 x 4 black or white blocks."""
    height, width = image.shape[-2:]
    number = 0
    for bit in range(16):
        y, x = bit // 4 * (height // 4), bit % 4 * (width // 4)
        block = image[..., y + 2 : y + height // 4 - 2, x + 2 : x + width // 4 - 2]
        number |= int(block.mean() > 0.5) << bit
    return number


def boundary_rows():
    starts, total = expected["starts"], expected["frames"]
    rows = {0, total // 2, total - 1, *starts, *(start - 1 for start in starts if start > 0)}
    return sorted(row for row in rows if 0 <= row < total)


def open_and_read(backend):
    def test():
        dataset = LeRobotDataset("local/x", root=root, video_backend=backend)
        assert len(dataset) == expected["frames"], f"{len(dataset)} rows, expected {expected['frames']}"
        for row in boundary_rows():
            item = dataset[row]
            assert isinstance(item["task"], str), f"task of row {row} is {item['task']!r}"
            if expected.get("row_tasks"):
                assert item["task"] == expected["row_tasks"][row], f"task of row {row}: {item['task']}"
            assert int(item["index"]) == row
            if expected.get("marked"):
                found = mark_of(item[expected["marked"]])
                assert found == expected["marks"][row], f"row {row} shows picture {found}, expected {expected['marks'][row]}"
        return f"{len(dataset)} rows, {len(boundary_rows())} read"

    return test


def windows():
    fps = expected["fps"]
    deltas = {"action": [i / fps for i in range(16)]}
    if expected.get("marked"):
        deltas[expected["marked"]] = [-1 / fps, 0]
    dataset = LeRobotDataset("local/x", root=root, delta_timestamps=deltas, video_backend="pyav")
    ends = [*expected["starts"][1:], expected["frames"]]
    for start, end in zip(expected["starts"], ends):
        for row in {start, end - 1}:
            pad = dataset[row]["action_is_pad"].tolist()
            assert pad == [row + i >= end for i in range(16)], f"padding of row {row}: {pad}"


def subset():
    last = len(expected["starts"]) - 1
    dataset = LeRobotDataset("local/x", root=root, episodes=[last], video_backend="pyav")
    length = expected["frames"] - expected["starts"][-1]
    assert len(dataset) == length, f"{len(dataset)} rows, expected {length}"
    dataset[0], dataset[length - 1]


def batch():
    dataset = LeRobotDataset("local/x", root=root, video_backend="pyav")
    size = min(8, len(dataset))
    loaded = next(iter(torch.utils.data.DataLoader(dataset, batch_size=size)))
    assert loaded["index"].tolist() == list(range(size))


def streaming():
    from lerobot.datasets.streaming_dataset import StreamingLeRobotDataset

    dataset = StreamingLeRobotDataset("local/x", root=root, shuffle=False, tolerance_s=1e-3)
    seen = sorted(int(item["index"]) for item in dataset)
    assert seen == list(range(expected["frames"])), f"{len(seen)} items"


def statistics():
    """Per-episode statistics of vectors, recomputed by lerobot from the rows (quantiles where it knows them)."""
    import numpy as np
    import pyarrow.parquet as pq
    from lerobot.datasets.compute_stats import get_feature_stats

    from pathlib import Path

    rows = pq.read_table(sorted(Path(root).glob("data/*/*.parquet"))).to_pandas()
    table = pq.read_table(sorted(Path(root).glob("meta/episodes/*/*.parquet"))).to_pandas()
    compared = 0
    for episode, own in rows.groupby("episode_index"):
        for key in ("action", "timestamp", "index", "task_index"):
            values = np.stack([np.atleast_1d(value) for value in own[key]])
            expected_stats = get_feature_stats(values, axis=0, keepdims=values.shape[1] == 1)
            for name, expected_value in expected_stats.items():
                found = np.asarray(table.loc[episode, f"stats/{key}/{name}"], dtype=float).reshape(-1)
                span = max(1e-9, float(values.max() - values.min()))
                off = float(np.abs(found - np.asarray(expected_value, dtype=float).reshape(-1)).max())
                assert off <= max(span / 4000, 1e-5), f"{name} of {key} in episode {episode} is off by {off}"
                compared += 1
    return f"{compared} statistics compared"


def tasks_by_pandas():
    import pandas as pd

    tasks = pd.read_parquet(f"{root}/meta/tasks.parquet")
    assert all(isinstance(tasks.iloc[i].name, str) for i in range(len(tasks)))
    assert tasks["task_index"].tolist() == list(range(len(tasks)))


def depth():
    key, first, step = expected["depth"]["key"], expected["depth"]["first_mm"], expected["depth"]["step_mm"]
    dataset = LeRobotDataset("local/x", root=root, video_backend="pyav")
    for row in boundary_rows():
        found = float(dataset[row][key].reshape(-1)[0])
        wanted = first + step * (expected["marks"][row] % 1000)
        assert abs(found - wanted) <= 0.005 * wanted, f"row {row} is {found} mm, expected {wanted}"


check("open-pyav", open_and_read("pyav"))
check("open-torchcodec", open_and_read("torchcodec"))
check("delta-timestamps", windows)
check("episode-subset", subset)
check("batch", batch)
if expected["version"] == "v3.0":
    check("tasks-pandas", tasks_by_pandas)
    check("statistics", statistics)
if expected.get("depth"):
    check("depth", depth)
if expected.get("streaming"):
    check("streaming", streaming)
sys.exit(1 if failed else 0)
