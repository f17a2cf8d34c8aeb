"""Checksums and Blosc frames of a store: sections 5 and 6 of README.md beside this file."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numcodecs import blosc, lz4, zstd

CROSS_CHECK = False  # Also decode every frame with c-blosc and compare.


class Refused(ValueError):
    """The store breaks the format; no voxel is handed out."""


def need(condition: Any, message: str) -> None:
    """Refuses unless `condition`."""
    if not condition:
        raise Refused(message)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected) of `data`."""
    try:
        import google_crc32c  # The same sum, a thousand times faster, where it is installed.

        return google_crc32c.value(bytes(data))
    except ImportError:
        crc = 0xFFFFFFFF
        for byte in bytes(data):
            crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
        return crc ^ 0xFFFFFFFF


def strip_crc32c(data: bytes, where: str) -> bytes:
    """`data` without the crc32c that is its last 4 bytes."""
    need(len(data) >= 5, f"{where}: {len(data)} bytes, expected at least 5")
    (expected,) = struct.unpack("<I", data[-4:])
    found = crc32c(data[:-4])
    need(found == expected, f"{where}: crc32c {found:#010x}, expected {expected:#010x}")
    return data[:-4]


def unshuffle(block: np.ndarray, t: int) -> np.ndarray:
    """Undoes the byte shuffle of a block of elements of `t` bytes."""
    m = len(block) // t
    return np.concatenate([block[: m * t].reshape(t, m).T.reshape(-1), block[m * t :]])


def unbitshuffle(block: np.ndarray, t: int) -> np.ndarray:
    """Undoes the bit shuffle of a block of elements of `t` bytes."""
    m = len(block) // t
    if m % 8:
        return block
    rows = block[: m * t].reshape(8 * t, m // 8)
    # Row 8k + j holds bit j of byte k of every element.
    bits = np.unpackbits(rows, axis=1, bitorder="little")
    elements = np.packbits(bits.T, axis=1, bitorder="little")
    return np.concatenate([elements.reshape(-1), block[m * t :]])


def unzstd(stream: bytes, length: int) -> bytes:
    """A Zstandard stream of at most `length` bytes when decoded."""
    # The first call bounds the length, whatever the stream claims; the second returns it.
    zstd.decompress(stream, bytearray(length))
    return zstd.decompress(stream)


def decompress(stream: bytes, length: int, format_: int, where: str) -> bytes:
    """One stream of a block, `length` bytes when decoded."""
    if len(stream) == length:
        return stream
    try:
        if format_ == 1:  # numcodecs wants the decoded length in front of an LZ4 block.
            out = lz4.decompress(struct.pack("<I", length) + stream)
        else:
            out = unzstd(stream, length)
    except (RuntimeError, ValueError) as error:
        raise Refused(f"{where}: {error}") from error
    need(len(out) == length, f"{where}: {len(out)} bytes, expected {length}")
    return bytes(out)


def decode_frame(frame: bytes, chunk_bytes: int, itemsize: int, where: str) -> bytes:
    """The chunk in a Blosc 1 frame: section 6."""
    need(len(frame) >= 16, f"{where}: {len(frame)} bytes, a Blosc header has 16")
    version, versionlz, flags, typesize, nbytes, blocksize, cbytes = struct.unpack(
        "<4B3I", frame[:16]
    )
    need(
        (version, versionlz) == (2, 1),
        f"{where}: Blosc version {version}, {versionlz}, expected 2, 1",
    )
    need(typesize == itemsize, f"{where}: typesize {typesize}, expected {itemsize}")
    need(cbytes == len(frame), f"{where}: {len(frame)} bytes, the header says {cbytes}")
    need(nbytes == chunk_bytes, f"{where}: decodes to {nbytes} bytes, expected {chunk_bytes}")
    if flags & 0x02:
        need(cbytes == 16 + nbytes, f"{where}: {cbytes} bytes, expected {16 + nbytes}")
        return frame[16:]
    need(1 <= blocksize <= nbytes and blocksize % typesize == 0, f"{where}: blocksize {blocksize}")
    need(not flags & 0x08 and flags & 0x05 != 0x05, f"{where}: flags {flags:#04x}")
    need(flags >> 5 in (1, 4), f"{where}: compression format {flags >> 5}, expected 1 or 4")

    def u32(at: int) -> int:
        need(at + 4 <= cbytes, f"{where}: byte {at} is outside the frame")
        return struct.unpack_from("<I", frame, at)[0]

    out = bytearray()
    for n in range(-(-nbytes // blocksize)):
        size = min(blocksize, nbytes - n * blocksize)
        split = (
            not flags & 0x10
            and typesize <= 16
            and blocksize // typesize >= 128
            and size == blocksize
        )
        streams = typesize if split else 1
        at = u32(16 + 4 * n)
        block = bytearray()
        for _ in range(streams):
            length = u32(at)
            need(
                at + 4 + length <= cbytes,
                f"{where}: block {n}: a stream of {length} bytes leaves the frame",
            )
            block += decompress(
                frame[at + 4 : at + 4 + length], size // streams, flags >> 5, f"{where}: block {n}"
            )
            at += 4 + length
        shuffled = np.frombuffer(block, np.uint8)
        if flags & 0x01:
            shuffled = unshuffle(shuffled, typesize)
        elif flags & 0x04:
            shuffled = unbitshuffle(shuffled, typesize)
        out += shuffled.tobytes()
    if CROSS_CHECK:
        need(blosc.decompress(frame) == out, f"{where}: c-blosc decodes other bytes")
    return bytes(out)
