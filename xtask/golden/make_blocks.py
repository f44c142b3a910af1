#!/usr/bin/env python3
"""Make blocks of GGUF's quantized formats with random bits, and hash their numbers as gguf-py decodes them.

needs: gguf 0.19.0, numpy

`crates/maitre-tensor/src/blocks/golden.txt`: a line for each block, with the format's name, the block's bytes in
hexadecimal, and the 64-bit FNV-1a hash of its numbers as little-endian f32.
"""

import pathlib

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

FORMATS = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()
# Where f16 numbers lie in a block: random ones would be infinite, NaN or tiny.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}
BLOCKS = 4


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


random = numpy.random.default_rng(7)
lines = []
for name in FORMATS:
    kind = GGMLQuantizationType[name]
    _, size = GGML_QUANT_SIZES[kind]
    for number in range(BLOCKS):
        block = random.integers(0, 256, size, dtype=numpy.uint8)
        for place in HALVES[name]:
            value = numpy.float16(random.normal() * 2.0 ** random.integers(-8, 3))
            block[place:place + 2] = numpy.frombuffer(value.tobytes(), numpy.uint8)
        if name == "MXFP4":
            block[0] = [0, 1, 2, 130][number]
        numbers = quants.dequantize(block, kind).astype("<f4")
        # A negative zero is a zero.
        numbers = numbers + numpy.float32(0)
        lines.append(f"{name} {block.tobytes().hex()} {fnv(numbers.tobytes()):016x}")
path = pathlib.Path(__file__).parents[2] / "crates/maitre-tensor/src/blocks/golden.txt"
path.write_text("\n".join(lines) + "\n")
