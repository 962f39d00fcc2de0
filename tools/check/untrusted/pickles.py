"""Pickles in a foreign bundle: what they would import and call, read off their opcodes by picklescan, never loaded.

Of picklescan only the reading of opcodes is used. Its search for files goes by their names, which a member named
DATA.PKL escapes, and it carries what one pickle memoises into the next, which Python does not. So each file is judged
by its content, each pickle on its own, and whatever is not known to be harmless is named.
"""

from __future__ import annotations

import io
import logging
import pickletools
import re
from collections.abc import Iterator
from typing import IO

from scripts.errors import UserError

from .findings import Finding, shown

MOST_BYTES = 64 * 1024 * 1024
MOST_OPCODES = 500_000
MOST_PICKLES = 100  # in a row; torch's old format has five
PROTOCOLS = tuple(bytes([0x80, number]) for number in range(2, 6))
ENDINGS = (
    ".pkl",
    ".pickle",
    ".pt",
    ".pth",
    ".ckpt",
    ".bin",
    ".dat",
    ".data",
    ".joblib",
    ".dill",
    ".p",
    ".npy",
    ".th",
    ".tar",
)
TORCH_MAGIC = 119547037146038801333356  # the first pickle of what torch saved before 1.6; the fifth ends them
DOTTED = re.compile(r"[\w.]+")
# What picklescan does not list as harmless, but torch.load(weights_only=True) takes.
HARMLESS = {
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch.serialization", "_get_layout"),
    ("torch.storage", "UntypedStorage"),
    ("collections", "Counter"),
    ("_codecs", "encode"),
}


def pickle_findings(file: str, stream: IO[bytes], member: bool) -> Iterator[Finding]:
    """What the pickles in a file would import and call.

    Args:
        file: its name.
        stream: its content.
        member: whether it lies in an archive of torch or NumPy, where raw numbers lie, too.

    Raises:
        UserError: a pickle of more opcodes than a model's.
    """
    data = stream.read(MOST_BYTES)
    named = file.lower().endswith(ENDINGS)
    is_pickle = named or data.startswith(PROTOCOLS)
    if member and not is_pickle:
        return
    start, complete, opcodes, torch = 0, 0, 0, False
    while start < len(data):
        end, count, first, broken = _pickle(data, start, MOST_OPCODES - opcodes)
        opcodes += count
        if opcodes > MOST_OPCODES or complete > MOST_PICKLES:
            most = f"at most {MOST_PICKLES} pickles of {MOST_OPCODES} opcodes"
            raise UserError(f"{shown(file)}: expected {most}, found more; do not use this bundle")
        torch = torch or (complete == 0 and first == TORCH_MAGIC)
        calls = list(_calls(file, data[start:end]))
        if broken and not is_pickle and not all(DOTTED.fullmatch(one.what) for one in calls):
            return  # a text whose first letter is an opcode
        yield from calls
        if broken:
            raw = torch and complete >= 5  # the numbers of the tensors
            if (complete or calls or data.startswith(PROTOCOLS)) and not raw:
                yield Finding(
                    file, f"byte {start}", "pickle", "", "cannot be followed to its end: what comes there is unknown"
                )
            return
        start, complete = end, complete + 1


def _pickle(data: bytes, start: int, most: int) -> tuple[int, int, object, bool]:
    """Where a pickle ends, its opcodes (counted to one above the most), its first value, and whether it breaks off."""
    stream = io.BytesIO(data)
    stream.seek(start)
    count, first = 0, None
    try:
        for opcode, value, _ in pickletools.genops(stream):
            count += 1
            first = value if first is None and opcode.name != "PROTO" else first
            if count > most:
                break
    except (ValueError, OverflowError, MemoryError):
        return len(data), count, first, True
    return stream.tell(), count, first, False


def _calls(file: str, data: bytes) -> Iterator[Finding]:
    from picklescan.scanner import SafetyLevel, scan_pickle_bytes

    logging.getLogger("picklescan").setLevel(logging.CRITICAL + 1)
    try:
        found = scan_pickle_bytes(io.BytesIO(data), file).globals
    except Exception as error:  # whatever a crafted pickle makes of its parser
        yield Finding(file, "", "pickle", "", f"cannot be read: {shown(str(error))}")
        return
    for one in sorted(found, key=lambda one: (one.module, one.name)):
        module, name = str(one.module), str(one.name)
        script = (
            module.startswith("__torch__") or module == "torch.jit._pickle"
        )  # which no import can find, or only lists
        if one.safety is not SafetyLevel.Innocuous and (module, name) not in HARMLESS and not script:
            yield Finding(
                file, "", "pickle", f"{module}.{name}", "is imported, and may be called, by loading this file"
            )


def array_findings(file: str, stream: IO[bytes]) -> Iterator[Finding]:
    """What loading a NumPy array would unpickle.

    Raises:
        UserError: a header that cannot be read.
    """
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        dtype = read(stream)[2]
    except Exception as error:  # whatever a crafted header makes of its parser
        raise UserError(
            f"{shown(file)}: expected an array of NumPy, found a header that cannot be read: {shown(str(error))}"
        ) from None
    if dtype.hasobject:
        yield Finding(file, "", "array of Python objects", str(dtype), "is unpickled where allow_pickle is set")
        yield from pickle_findings(file, stream, member=False)
