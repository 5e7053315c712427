"""Reads what TensorBoard reads."""

import io
import struct

import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event


def read(folder):
    """The curves below a folder, `{track: {name: [(step, value), ...]}}`; pictures are arrays."""
    found = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        track = found.setdefault(path.parent.relative_to(folder).as_posix(), {})
        for event in _events(path.read_bytes()):
            if event.HasField("session_log"):  # a new start hides what it will tell again
                for name, points in track.items():
                    track[name] = [point for point in points if point[0] < event.step]
            for value in event.summary.value:
                track.setdefault(value.tag, []).append((event.step, _content(value)))
    return found


def _events(content):
    """Events of a file: each is a length, its checksum, the event, and its checksum."""
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += length + 16


def _content(value):
    if value.HasField("image"):
        return np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
    return value.simple_value
