"""DLPack: how libraries hand arrays to one another without a copy (https://dmlc.github.io/dlpack/latest/c_api.html), the giving side."""

import ctypes

CODES = {"i": 0, "u": 1, "f": 2, "b": 6}       # DLDataTypeCode


class Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("index", ctypes.c_int32)]


class DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class ManagedTensor(ctypes.Structure):
    """DLManagedTensor, the DLTensor that it begins with written out."""


DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(ManagedTensor))
ManagedTensor._fields_ = [("data", ctypes.c_void_p), ("device", Device), ("ndim", ctypes.c_int32), ("dtype", DataType),
                          ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                          ("byte_offset", ctypes.c_uint64), ("context", ctypes.c_void_p), ("deleter", DELETER)]
_given = {}                                    # address of a ManagedTensor: it, and what must live as long as it is used
_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


@DELETER
def _delete(tensor):
    """The taker is done with it."""
    _given.pop(ctypes.addressof(tensor.contents), None)


def capsule(array):
    """A capsule of the name "dltensor" around a DeviceArray, which lives until the taker calls the deleter."""
    lengths = ctypes.c_int64 * max(1, array.ndim)
    shape, strides = lengths(*array.shape), lengths(*array.strides)
    dtype = DataType(CODES[array.dtype.kind], 8 * array.dtype.itemsize, 1)
    tensor = ManagedTensor(array.address, Device(*array.__dlpack_device__()), array.ndim, dtype, shape, strides, 0, None, _delete)
    _given[ctypes.addressof(tensor)] = tensor, shape, strides, array
    return _new(ctypes.addressof(tensor), b"dltensor", None)
