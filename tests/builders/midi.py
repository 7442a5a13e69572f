"""MIDI files put together byte by byte, without a MIDI library."""

import struct


def varint(value):
    """A time as MIDI writes it: 7 bits a byte, the last byte below 128."""
    out = [value & 127]
    while value := value >> 7:
        out.append(128 | value & 127)
    return bytes(out[::-1])


def track(*events, name=None, at=0):
    """A track of (tick, bytes), which ends at tick ``at`` or with its last event."""
    if name is not None:
        events = ((0, b"\xff\x03" + varint(len(name)) + name.encode()), *events)
    out, now = b"", 0
    for tick, content in sorted(events, key=lambda event: event[0]):
        out, now = out + varint(tick - now) + content, tick
    out += varint(max(0, at - now)) + b"\xff\x2f\x00"
    return b"MTrk" + struct.pack(">I", len(out)) + out


def midi(*tracks, ticks=480):
    return b"MThd" + struct.pack(">IHHh", 6, 1, len(tracks), ticks) + b"".join(tracks)


def note(start, end, pitch, channel=0):
    return (start, bytes([0x90 | channel, pitch, 64])), (end, bytes([0x80 | channel, pitch, 0]))


def tempo(tick, microseconds):
    return tick, b"\xff\x51\x03" + struct.pack(">I", microseconds)[1:]


def signature(tick, numerator, power):
    return tick, bytes([0xFF, 0x58, 4, numerator, power, 24, 8])
