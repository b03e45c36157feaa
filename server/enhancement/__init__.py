"""The LLM pass: text for the slots that items leave open, in the background, never in the feed's way.

Where to begin: `enhancer.py` (when it runs, and for whom), then `request.py` (what is asked), `prompt.py`
(in which words), `answer.py` (what may come back), `fills.py` (what is kept and laid over the feed).
"""

from __future__ import annotations

__all__: list[str] = []
