"""Where edgepack keeps files: XDG directories, and the data files of the wheel.

``XDG_CACHE_HOME``, ``XDG_CONFIG_HOME``, ``XDG_DATA_HOME`` and ``XDG_STATE_HOME`` are honoured.
"""

from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent.parent


def cache_dir() -> Path:
    """Files that can be rebuilt: the artifact store, built agents, runtime wheels, board images."""
    return Path(platformdirs.user_cache_dir("edgepack"))


def config_dir() -> Path:
    """Configuration: ``devices.yaml`` and the user's own targets."""
    return Path(platformdirs.user_config_dir("edgepack"))


def data_dir() -> Path:
    """Data that must not be lost: tuning records, runs and their reports."""
    return Path(platformdirs.user_data_dir("edgepack"))


def state_dir() -> Path:
    """Runtime state of this machine: running virtual boards, locks."""
    return Path(platformdirs.user_state_dir("edgepack"))


def shipped_dir(kind: str) -> Path:
    """The folder of shipped ``targets`` or ``recipes``: inside the wheel, or at the top of a checkout."""
    inside = PACKAGE / "_data" / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind
