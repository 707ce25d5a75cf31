"""The AMQP 1.0 type system in one place: values, `encode`, `decode`, `skip`."""

from hotpath.wire.decoder import decode, decode_exact
from hotpath.wire.encoder import encode
from hotpath.wire.scan import skip
from hotpath.wire.values import (
    Array,
    Byte,
    Char,
    DecimalBits,
    Described,
    Float32,
    Int,
    Long,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    WireError,
)

__all__ = [
    "Array",
    "Byte",
    "Char",
    "DecimalBits",
    "Described",
    "Float32",
    "Int",
    "Long",
    "Short",
    "Symbol",
    "Timestamp",
    "UByte",
    "UInt",
    "ULong",
    "UShort",
    "WireError",
    "decode",
    "decode_exact",
    "encode",
    "skip",
]
