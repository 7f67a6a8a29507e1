"""A storage provider for Snakemake in place of S3: `bucket://NAME/KEY` is a file of the folder in $BUCKETS.

Like a bucket, and unlike a shared disk, it holds what is declared as an output and nothing that lies beside it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snakemake_interface_storage_plugins.storage_object import StorageObjectRead, StorageObjectWrite
from snakemake_interface_storage_plugins.storage_provider import (
    ExampleQuery,
    Operation,
    QueryType,
    StorageProviderBase,
    StorageQueryValidationResult,
)

SCHEME = "bucket://"


class StorageProvider(StorageProviderBase):
    """Nothing to connect to."""

    @classmethod
    def example_queries(cls) -> list[ExampleQuery]:
        """Show what a query looks like."""
        return [ExampleQuery(query=f"{SCHEME}name/key", type=QueryType.ANY, description="a file")]

    @classmethod
    def is_valid_query(cls, query: str) -> StorageQueryValidationResult:
        """Take queries of the scheme."""
        return StorageQueryValidationResult(valid=query.startswith(SCHEME), query=query, reason="not of the scheme")

    def use_rate_limiter(self) -> bool:
        """Say that requests need not be counted."""
        return False

    def default_max_requests_per_second(self) -> float:
        """Return a number that nobody asks for."""
        return 1.0

    def rate_limiter_key(self, query: str, operation: Operation) -> Any:
        """Return a key that nobody asks for."""
        return None

    def list_objects(self, query: Any) -> Iterable[str]:
        """List nothing: no rule looks for files by a pattern."""
        return ()


class StorageObject(StorageObjectRead, StorageObjectWrite):
    """A file or a folder of files."""

    @property
    def path(self) -> Path:
        """Say where it lies."""
        return Path(os.environ["BUCKETS"], self.query.removeprefix(SCHEME))

    def local_suffix(self) -> str:
        """Return the path of local copies, below the folder for all of them."""
        return self.query.removeprefix(SCHEME)

    def get_inventory_parent(self) -> str | None:
        """Say that nothing is looked up in advance."""
        return None

    async def inventory(self, cache: Any) -> None:
        """Look nothing up in advance."""

    def cleanup(self) -> None:
        """Close nothing."""

    def exists(self) -> bool:
        """Tell whether it is there."""
        return self.path.exists()

    def mtime(self) -> float:
        """Return its time of change, in seconds."""
        return self.path.stat().st_mtime

    def size(self) -> int:
        """Return its size in bytes."""
        return self.path.stat().st_size

    def retrieve_object(self) -> None:
        """Copy it to this machine."""
        _copy(self.path, self.local_path())

    def store_object(self) -> None:
        """Copy it from this machine."""
        self.remove()
        _copy(self.local_path(), self.path)

    def remove(self) -> None:
        """Delete it."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        self.path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
