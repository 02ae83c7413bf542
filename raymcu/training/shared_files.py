"""Opens files that workers saved together by torch.distributed.checkpoint; runs nothing they say.

Torch's own reader unpickles whatever the index names, and unpickles entries that are no tensors.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

INDEX = ".metadata"
"""The file that says which tensors there are, and where."""
_METADATA = (
    "Metadata",
    "MetadataIndex",
    "StorageMeta",
    "TensorStorageMetadata",
    "ChunkStorageMetadata",
    "BytesStorageMetadata",
    "TensorProperties",
    "_MEM_FORMAT_ENCODING",
)
_PLAIN = {
    *(("torch.distributed.checkpoint.metadata", name) for name in _METADATA),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),  # looks a name up
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}
"""What an index is made of: records of names, sizes and places."""


class _Index(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if (module, name) in _PLAIN or is_dtype:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"its index names {module}.{name}, which is not opened")


class Reader(FileSystemReader):
    """Reads an index of names, sizes and places alone."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the index.

        Raises:
            pickle.UnpicklingError: If it holds anything else.
        """
        del args, kwargs
        with (Path(self.path) / INDEX).open("rb") as file:
            found = _Index(file).load()
        if not isinstance(found, Metadata):
            raise pickle.UnpicklingError(f"its index is a {type(found).__name__}")
        found.storage_meta = StorageMeta(load_id=self.load_id)
        return found


class Planner(DefaultLoadPlanner):
    """Takes tensors alone."""

    def load_bytes(self, read_item: Any, value: Any) -> None:
        """Refuse what is no tensor, which would be unpickled.

        Raises:
            pickle.UnpicklingError: Always.
        """
        del value
        raise pickle.UnpicklingError(f"{read_item.dest_index.fqn} is no tensor")
