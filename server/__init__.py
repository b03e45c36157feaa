"""The push server. `app` builds the parts and joins them; every other room knows only its neighbours."""

from __future__ import annotations

__all__: list[str] = []
