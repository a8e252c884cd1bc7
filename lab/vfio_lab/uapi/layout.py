"""C structs as typed Python classes: one annotation per field, laid out by ctypes.

    @kernel_struct
    class vfio_group_status(ctypes.Structure):
        argsz: u32
        flags: u32

The type checker sees integers; ctypes sees `_fields_` with the C types and natural alignment.
A field that C calls `__reserved` is `reserved` here, because Python would mangle it.
"""

from __future__ import annotations

import ctypes
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

u8 = Annotated[int, ctypes.c_uint8]
u16 = Annotated[int, ctypes.c_uint16]
u32 = Annotated[int, ctypes.c_uint32]
u64 = Annotated[int, ctypes.c_uint64]
s32 = Annotated[int, ctypes.c_int32]
u8x3 = Annotated[Any, ctypes.c_uint8 * 3]

S = TypeVar("S", bound=ctypes.Structure)
AS_HEX = frozenset(
    {"flags", "offset", "size", "vaddr", "iova", "user_va", "length", "out_phys", "data"}
)


def kernel_struct(cls: type[S]) -> type[S]:
    """Set `_fields_` of a class from its annotations, in their order."""
    hints = get_type_hints(cls, include_extras=True)
    cls._fields_ = [(name, _c_type(hints[name])) for name in cls.__annotations__]
    return cls


def describe(value: ctypes.Structure) -> str:
    """Return a struct's fields as `name=value` words for a transcript."""
    words = []
    for name, *_ in value._fields_:
        content = getattr(value, name)
        if isinstance(content, int):
            words.append(f"{name}={content:#x}" if name in AS_HEX else f"{name}={content}")
        elif isinstance(content, ctypes.Structure):
            words.append(f"{name}={{{describe(content)}}}")
    return " ".join(words)


def offset_of(struct: type[ctypes.Structure], field: str) -> int:
    """Return a field's offset in bytes."""
    return int(getattr(struct, field).offset)


def _c_type(hint: Any) -> Any:
    return hint.__metadata__[0] if get_origin(hint) is Annotated else hint
