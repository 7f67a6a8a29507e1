"""What all nets take from diffusers."""

from __future__ import annotations

from typing import Any, Self

from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import is_accelerate_available


class Model(ModelMixin, ConfigMixin):
    """A net that loads and saves itself in diffusers format."""

    @classmethod
    def from_pretrained(cls, name: Any, **options: Any) -> Self:
        """Load as the library does; without a warning where its optional accelerate package is missing."""
        return super().from_pretrained(name, **({"low_cpu_mem_usage": is_accelerate_available()} | options))
