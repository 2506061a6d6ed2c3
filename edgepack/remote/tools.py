"""The agent and its runtime on a board without a release, for tuning and for `devices info`.

They are in ``<work_dir>/.tools/<digest>/``, laid out as in a bundle. The digest covers every byte, so a
folder with that name is complete, and is sent once.
"""

import hashlib
import posixpath
import secrets

from edgepack.agent.build import build_agent
from edgepack.base.files import sha256_file
from edgepack.bundle import layout
from edgepack.bundle.runtime import runtime_libs
from edgepack.config.target import Target
from edgepack.remote.layout import script, work_path
from edgepack.remote.session import Session
from edgepack.spec.runtime import BASE, CUDA

TOOLS = ".tools"

# Sets unused for a day are removed: one is 6 MB. Newer ones may be in use by another run.
_PREPARE = """\
mkdir -p "$1" && cd "$1" || exit 1
find . -mindepth 1 -maxdepth 1 -mmin +1440 ! -name "$2" -exec rm -rf {} +
if [ -d "$2" ]; then touch "$2"; echo there; exit 0; fi
shift 2
mkdir -p "$@" && echo missing
"""
# Two runs may send the same tools at once: the second keeps the first's, and removes its own copy.
_FINISH = """\
cd "$1" && chmod 755 "$3/$4" && sync || exit 1
mv -T -- "$3" "$2" 2>/dev/null && exit 0
rm -rf -- "$3"
[ -d "$2" ]
"""


def ensure_tools(session: Session, target: Target, work_dir: str) -> str:
    """Send the target's agent and runtime to the board if they are missing; returns the agent's path.

    Raises:
        DeployError: the board cannot store them.
        UnreachableError: the connection was lost.
    """
    files = {layout.AGENT: build_agent(target.abi.arch, target.abi.libc)}
    names = (*BASE, CUDA) if target.device_kind == "cuda" else BASE
    files |= {layout.library(name): path for name, path in runtime_libs(target.abi.arch, names).items()}
    listed = "".join(f"{name} {sha256_file(path)}\n" for name, path in sorted(files.items()))
    digest = hashlib.sha256(listed.encode()).hexdigest()[:32]
    root = posixpath.join(work_path(work_dir), TOOLS)
    new = f".new-{secrets.token_hex(8)}"
    folders = sorted({f"{new}/{posixpath.dirname(name)}" for name in files})
    if script(session, _PREPARE, root, digest, *folders).strip() != "there":
        for name, path in files.items():
            session.put(path, f"{root}/{new}/{name}")
        script(session, _FINISH, root, digest, new, layout.AGENT)
    return f"{root}/{digest}/{layout.AGENT}"
