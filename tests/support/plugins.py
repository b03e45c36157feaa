"""A package with a source, as an installed one looks, for servers that tests start as processes."""

from __future__ import annotations

from pathlib import Path

from tests.support.programs import ROOT

__all__ = ["installed"]


def installed(folder: Path, module: str, provider: str, text: str) -> dict[str, str]:
    """The settings of a server beside which `module`, with this text, is installed in `folder`."""
    (folder / f"{module}.py").write_text(text)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[freya_push.sources]\n{module} = {module}:{provider}\n")
    return {"PYTHONPATH": f"{ROOT}:{folder}"}
