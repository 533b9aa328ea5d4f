"""A captured graph's stand-in on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Recording(TorchDispatchMode):
    """The operations of a function, run again on the same storages, as a CUDA graph runs them.

    Whatever else the function does, such as reading a tensor or counting in Python, happens once.
    """

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        with self:
            run()

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, output))
        return output

    def replay(self) -> None:
        for function, args, kwargs, kept in self.operations:
            fresh = function(*args, **kwargs)
            for old, new in zip(tree_leaves(kept), tree_leaves(fresh), strict=True):
                # The same storage is that of a view, or of an operation in place.
                if isinstance(old, Tensor) and _storage(old) != _storage(new):
                    old.copy_(new)

    @property
    def names(self) -> set[str]:
        """Those of the operations, such as index_put_."""
        return {function._schema.name.split("::")[1] for function, *_ in self.operations}

    @property
    def tensors(self) -> list[Tensor]:
        """All that the operations read and made."""
        leaves = tree_leaves([operation[1:] for operation in self.operations])
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
