"""Values as JSON: what JSON has not is tagged, what cannot be sent is refused by name.

Arrays of numpy, tensors of torch, frames and series of pandas are such again where that package is;
elsewhere arrays are nested lists, and frames lists of rows.
"""

from __future__ import annotations

import base64
import datetime
import importlib
import json
import struct
import sys
from typing import Any

TAG = "$"
HINT = "numbers, text, bytes, lists, dicts, numpy arrays, torch tensors and pandas frames can be"
_PLAIN = (bool, int, float, str, type(None))
_COLLECTIONS: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_DATES: dict[str, Any] = {
    kind.__name__: kind for kind in (datetime.datetime, datetime.date, datetime.time)
}
_NUMBERS = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
}
"""Letters of the module struct for numpy's kinds of numbers."""


def dumps(value: Any, what: str) -> str:
    """One line of JSON; raises TypeError that names what in `what` cannot be sent."""
    return json.dumps(encode(value, what), separators=(",", ":"))


def encode(value: Any, where: str) -> Any:
    """The value in what JSON has; `where` is how an error calls it."""
    if isinstance(value, _PLAIN) and type(value) in _PLAIN:
        return value
    if type(value) in (list, dict):
        return _encoded_collection(value, where)
    for name, kind in _COLLECTIONS.items():
        if type(value) is kind:
            return {TAG: name, "items": [encode(item, where) for item in value]}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {TAG: "bytes", "data": _packed(bytes(value))}
    for name, kind in _DATES.items():
        if type(value) is kind:
            return {TAG: name, "iso": value.isoformat()}
    if isinstance(value, complex):
        return {TAG: "complex", "parts": [value.real, value.imag]}
    found = _foreign(value, where)
    if found is not None:
        return found
    if isinstance(value, _PLAIN):  # an IntEnum, a str of its own kind
        return next(kind(value) for kind in (int, float, str) if isinstance(value, kind))
    kind = type(value)
    name = getattr(value, "__qualname__", "")
    words = f"{kind.__module__}.{kind.__qualname__}{f' ({name})' if name else ''}"
    raise TypeError(f"{where} is a {words}, which cannot be sent: {HINT}")


def decode(value: Any) -> Any:
    """What was encoded, with the packages that are here."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = value.get(TAG)
    if tag is None:
        return {key: decode(item) for key, item in value.items()}
    if tag == "dict":
        return {_hashable(decode(key)): decode(item) for key, item in value["items"]}
    if tag in _COLLECTIONS:
        return _COLLECTIONS[tag](map(decode, value["items"]))
    if tag == "bytes":
        return base64.b64decode(value["data"])
    if tag in _DATES:
        return _DATES[tag].fromisoformat(value["iso"])
    if tag == "complex":
        return complex(*value["parts"])
    if tag == "missing":
        return None
    return {"ndarray": _array, "tensor": _tensor, "frame": _frame, "series": _series}[tag](value)


def plain(value: Any) -> Any:
    """What was encoded, in what JSON shows: arrays as lists, frames as rows, bytes as base64."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = value.get(TAG)
    if tag is None:
        return {key: plain(item) for key, item in value.items()}
    if tag == "dict":
        return {str(plain(key)): plain(item) for key, item in value["items"]}
    if tag in _COLLECTIONS:
        return [plain(item) for item in value["items"]]
    if tag in ("ndarray", "tensor"):
        return _lists(value)
    if tag == "frame":
        return _rows([plain(column) for column in value["data"]], value["columns"])
    if tag == "series":
        return plain(value["data"])
    return value.get("data", value.get("iso", value.get("parts")))


def _encoded_collection(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return [encode(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if all(type(key) is str for key in value) and TAG not in value:
        return {key: encode(item, f"{where}[{key!r}]") for key, item in value.items()}
    pairs = [
        [encode(key, f"a key of {where}"), encode(item, f"{where}[{key!r}]")]
        for key, item in value.items()
    ]
    return {TAG: "dict", "items": pairs}


def _foreign(value: Any, where: str) -> Any:
    """Values of packages, which are only looked for where they were imported."""
    numpy, torch, pandas = (sys.modules.get(name) for name in ("numpy", "torch", "pandas"))
    if torch is not None and isinstance(value, torch.Tensor):
        return _encoded_tensor(value, where)
    if pandas is not None and isinstance(value, pandas.DataFrame):
        columns = [encode(column, f"a column's name of {where}") for column in value.columns]
        data = [
            _encoded_column(value.iloc[:, number], f"{where}[{name!r}]")
            for number, name in enumerate(value.columns)
        ]
        index = _encoded_column(value.index, f"{where}.index")
        return {TAG: "frame", "columns": columns, "index": index, "data": data}
    if pandas is not None and isinstance(value, pandas.Series):
        index = _encoded_column(value.index, f"{where}.index")
        name = encode(value.name, f"{where}.name")
        return {TAG: "series", "name": name, "index": index, "data": _encoded_column(value, where)}
    if pandas is not None and isinstance(value, pandas.Timestamp):
        return {TAG: "datetime", "iso": value.to_pydatetime().isoformat()}
    if pandas is not None and (value is pandas.NA or value is pandas.NaT):
        return {TAG: "missing"}
    if numpy is not None and isinstance(value, numpy.generic):
        return encode(value.item(), where)
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _encoded_array(value, where)
    return None


def _encoded_array(array: Any, where: str) -> Any:
    if array.dtype.kind in "biufc":
        array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        data = _packed(array.tobytes())
        return {TAG: "ndarray", "dtype": array.dtype.str, "shape": list(array.shape), "data": data}
    if array.dtype.kind in "OUSM" and array.ndim == 1:
        items = [encode(item, f"{where}[{number}]") for number, item in enumerate(array.tolist())]
        return {TAG: "ndarray", "dtype": "O", "shape": list(array.shape), "items": items}
    raise TypeError(f"{where} is an array of {array.dtype}, which cannot be sent: {HINT}")


def _encoded_tensor(tensor: Any, where: str) -> Any:
    tensor = tensor.detach().cpu()
    if tensor.layout is not sys.modules["torch"].strided or tensor.is_quantized:
        raise TypeError(
            f"{where} is a tensor that is sparse or quantized: send `.to_dense()` of it"
        )
    kind = str(tensor.dtype)
    if kind == "torch.bfloat16":  # which numpy has not
        tensor = tensor.float()
    return {**_encoded_array(tensor.numpy(), where), TAG: "tensor", "of": kind}


def _encoded_column(column: Any, where: str) -> Any:
    array = column.to_numpy()
    if array.dtype.kind in "biuf":
        return _encoded_array(array, where)
    return [encode(item, where) for item in column.tolist()]


def _array(value: Any) -> Any:
    numpy = _module("numpy")
    if numpy is None:
        return _lists(value)
    if "items" in value:
        array = numpy.empty(len(value["items"]), dtype=object)
        array[:] = decode(value["items"])
        return array
    data = base64.b64decode(value["data"])
    return numpy.frombuffer(data, dtype=value["dtype"]).reshape(value["shape"]).copy()


def _tensor(value: Any) -> Any:
    array, torch = _array(value), _module("torch")
    if torch is None or isinstance(array, list):
        return array
    return torch.from_numpy(array).to(getattr(torch, value["of"].partition(".")[2]))


def _frame(value: Any) -> Any:
    columns, data = decode(value["columns"]), [decode(column) for column in value["data"]]
    pandas = _module("pandas")
    if pandas is None:
        return _rows([list(column) for column in data], columns)
    frame = pandas.DataFrame(dict(enumerate(data)), index=decode(value["index"]))
    frame.columns = columns
    return frame


def _series(value: Any) -> Any:
    pandas = _module("pandas")
    if pandas is None:
        return list(decode(value["data"]))
    return pandas.Series(decode(value["data"]), decode(value["index"]), name=decode(value["name"]))


def _rows(columns: Any, names: Any) -> Any:
    rows = zip(*columns, strict=True)
    return [dict(zip(map(str, names), row, strict=True)) for row in rows]


def _lists(value: Any) -> Any:
    """An array as nested lists, or its one number."""
    if "items" in value:
        return [plain(item) for item in value["items"]]
    letter = _NUMBERS.get(value["dtype"][1:])
    if letter is None:
        raise TypeError(f"an array of {value['dtype']} needs numpy here")
    data, shape = base64.b64decode(value["data"]), value["shape"]
    flat = list(struct.unpack(f"<{len(data) // struct.calcsize(letter)}{letter}", data))
    return _nested(flat, shape)


def _nested(flat: Any, shape: Any) -> Any:
    if not shape:
        return flat[0]
    size = len(flat) // shape[0] if shape[0] else 0
    return [_nested(flat[at * size : (at + 1) * size], shape[1:]) for at in range(shape[0])]


def _packed(data: Any) -> str:
    return base64.b64encode(data).decode("ascii")


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
