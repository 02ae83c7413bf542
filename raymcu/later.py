"""torch for built-in components: imported when something of it is used.

A plan, a list or a refusal reads what components say of themselves and computes nothing: without
this, a second and more would go by before the first word.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
else:

    class _Later:
        def __getattr__(self, name: str) -> Any:
            import torch

            return getattr(torch, name)

    torch = _Later()
