"""Programs that run natively on a board with this machine's own architecture: qemu itself and sshd.

On such a board qemu is registered for every binary of the machine's own kind; qemu would run itself recursively.
The registration matches zero padding in the ELF header, so copies with a mark there are not matched. Neither Linux
nor the dynamic loader checks the padding.
"""

import shutil
from pathlib import Path

_PADDING = 15  # the last byte of e_ident
_HELPERS = Path("/usr/lib/openssh")  # of sshd, since 9.8


def mark_copy(program: str, folder: Path) -> str:
    """A copy of a program in ``folder`` that qemu's registration does not match."""
    copy = folder / Path(program).name
    copy.unlink(
        missing_ok=True
    )  # a process of the previous start may still be exiting: its file must not change
    shutil.copyfile(program, copy)
    copy.chmod(0o755)
    with copy.open("r+b") as stream:
        stream.seek(_PADDING)
        stream.write(b"\x01")
    return str(copy)


def sshd_programs(sshd: str, folder: Path) -> dict[str, str]:
    """The programs of sshd by path, each with its marked copy."""
    helpers = (_HELPERS / name for name in ("sshd-session", "sshd-auth"))
    programs = [str(Path(sshd).resolve()), *(str(helper) for helper in helpers if helper.exists())]
    return {program: mark_copy(program, folder) for program in programs}
