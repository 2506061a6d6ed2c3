"""The agent and its runtime on a board without any release: for tuning and for `devices info`.

They lie in ``<work_dir>/.tools/<digest>/`` as in a bundle, ``bin/edgepack-agent`` beside ``lib/*.so``. The
digest covers every byte, so what is there under its name is right, and is sent once.
"""

import hashlib
import posixpath

from edgepack.agent.build import build_agent
from edgepack.bundle.runtime import runtime_libs
from edgepack.remote.layout import script, work_path
from edgepack.remote.session import Session
from edgepack.store import sha256_file
from edgepack.target import Target

TOOLS = ".tools"

# Older tools go: one set is 6 MB, and nothing but this edgepack's own digest is ever asked for.
_PREPARE = """\
root=$1
digest=$2
mkdir -p "$root" && cd "$root" || exit 1
if [ -d "$digest" ]; then echo there; exit 0; fi
for old in * .new-*; do if [ -d "$old" ]; then rm -rf -- "$old"; fi; done
mkdir -p ".new-$digest/bin" ".new-$digest/lib" && echo missing
"""
_FINISH = """\
cd "$1" && chmod 755 ".new-$2/bin/edgepack-agent" && sync && mv -T -- ".new-$2" "$2"
"""


def ensure_tools(session: Session, target: Target, work_dir: str) -> str:
    """Put the target's agent and runtime on the board, if they are not there; returns the agent's path.

    Raises:
        DeployError: the board cannot take them.
        UnreachableError: the connection was lost.
    """
    files = {"bin/edgepack-agent": build_agent(target.abi.arch, target.abi.libc)}
    libraries = runtime_libs(target.abi.arch, cuda=target.device_kind == "cuda")
    files |= {f"lib/{name}": path for name, path in libraries.items()}
    names = "".join(f"{name} {sha256_file(path)}\n" for name, path in sorted(files.items()))
    digest = hashlib.sha256(names.encode()).hexdigest()[:32]
    root = posixpath.join(work_path(work_dir), TOOLS)
    if script(session, _PREPARE, root, digest).strip() != "there":
        for name, path in files.items():
            session.put(path, f"{root}/.new-{digest}/{name}")
        script(session, _FINISH, root, digest)
    return f"{root}/{digest}/bin/edgepack-agent"
