#!/usr/bin/env python3
"""Check the Dockerfile without Docker.

By default: every make target its RUN steps name exists, every file it copies exists and reaches the
build context. With ``--run`` (root): make the base image's Debian release with mmdebstrap, copy the tree
into it as COPY would, and run the RUN steps in order with it as their root, then the entry point's command.
"""

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUITES = {"debian:12": "bookworm", "debian:13": "trixie"}
KNOWN = {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "ENV", "ENTRYPOINT", "CMD"}
CARRIED = ("PIP_", "SSL_CERT", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its line, counted from 1, its keyword and the rest."""

    line: int
    keyword: str
    rest: str


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile; continuation lines are joined, comments dropped."""
    found: list[Instruction] = []
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#"):
            continue
        start = start if pending else number
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        if pending.strip():
            keyword, _, rest = pending.strip().partition(" ")
            found.append(Instruction(start, keyword.upper(), rest.strip()))
        pending = ""
    return found


def make_targets(makefile: str) -> set[str]:
    """The targets a Makefile defines by name."""
    return {match[1] for match in re.finditer(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE)}


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps ``path`` (relative, '/' separated) out of the build context."""
    parts = path.split("/")
    prefixes = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    names = [(p, pattern) for pattern in patterns for p in prefixes]
    return any(
        p.split("/")[-1] == pattern[3:] if pattern.startswith("**/") else fnmatch.fnmatch(p, pattern)
        for p, pattern in names
    )


def problems(root: Path) -> Iterator[str]:
    """What is wrong with the Dockerfile, as ``Dockerfile:LINE: message``."""
    instructions = parse((root / "Dockerfile").read_text())
    targets = make_targets((root / "Makefile").read_text())
    patterns = [p for p in (root / ".dockerignore").read_text().split() if not p.startswith("#")]
    for step in instructions:
        where = f"Dockerfile:{step.line}"
        if step.keyword not in KNOWN:
            yield f"{where}: {step.keyword} is not an instruction this script can check"
        if step.keyword == "FROM" and step.rest not in SUITES:
            yield f"{where}: base image {step.rest} is not one of {', '.join(SUITES)}"
        if step.keyword == "RUN":
            unknown = [name for name in _made(step.rest) if name not in targets]
            yield from (f"{where}: make {name}: the Makefile has no such target" for name in unknown)
        if step.keyword == "COPY":
            for source in shlex.split(step.rest)[:-1]:
                if not (root / source).exists():
                    yield f"{where}: {source} does not exist"
                elif ignored(source, patterns):
                    yield f"{where}: {source} is kept out by .dockerignore"
    if not any(step.keyword == "RUN" and list(_made(step.rest)) for step in instructions):
        yield "Dockerfile: no step runs make; the build host must be set up by the Makefile's own targets"


def _made(command: str) -> Iterator[str]:
    """The make targets a shell command line builds."""
    for part in re.split(r"&&|;|\|\|", command):
        words = shlex.split(part, comments=True)
        if words[:1] == ["make"]:
            yield from (word for word in words[1:] if "=" not in word and not word.startswith("-"))


class Machine:
    """A fresh Debian below ``folder``, with the steps' own mounts; nothing of it outlives a step."""

    def __init__(self, folder: Path, binds: list[Path]) -> None:
        self.root = folder / "root"
        self.binds = binds
        self.directory = "/"
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            **{k: v for k, v in os.environ.items() if k.startswith(CARRIED)},
        }

    def create(self, suite: str) -> None:
        """Make the base system: what the debian images hold, from the host's apt sources."""
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", suite, str(self.root)]
        subprocess.run(command, check=True)
        for name in ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf"):
            if Path(name).exists():
                shutil.copyfile(name, f"{self.root}{name}")

    def run(self, command: list[str]) -> int:
        """Run a command inside, as Docker's RUN does: /proc, /dev, network, and nothing else of the host."""
        root = shlex.quote(str(self.root))
        script = [f"mount --rbind {root} {root}", f"mount --rbind /dev {root}/dev", f"mkdir -p {root}/.old"]
        for path in self.binds:
            inside = shlex.quote(f"{self.root}{path}")
            script += [f"mkdir -p {inside}", f"mount -o bind,ro {shlex.quote(str(path))} {inside}"]
        # A real change of root, as a container engine makes: in a mere chroot the kernel refuses user
        # namespaces, which emulated boards need.
        script += [
            f"cd {root}",
            "pivot_root . .old",
            "mount -t proc proc /proc",
            "mount -t sysfs -o ro sysfs /sys",
            "umount -l /.old",
            f"cd {shlex.quote(self.directory)}",
            f"exec {shlex.join(command)}",
        ]
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        shell = ["/bin/sh", "-c", " && ".join(script)]
        return subprocess.run([*unshare, *shell], env=self.environment, check=False).returncode


def copy_context(root: Path, sources: list[str], dest: Path) -> None:
    """COPY: the tree's tracked and new files, less what .dockerignore keeps out."""
    patterns = [p for p in (root / ".dockerignore").read_text().split() if not p.startswith("#")]
    for source in sources:
        for path in sorted((root / source).rglob("*")) if (root / source).is_dir() else [root / source]:
            relative = path.relative_to(root).as_posix()
            if path.is_file() and not ignored(relative, patterns):
                inside = path.relative_to(root / source) if (root / source).is_dir() else Path(path.name)
                (dest / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, dest / inside)


def perform(box: Machine, step: Instruction, root: Path) -> int:
    """Do what one instruction says; returns its exit status."""
    match step.keyword:
        case "FROM":
            box.create(SUITES[step.rest])
        case "WORKDIR":
            box.directory = step.rest
            Path(f"{box.root}{step.rest}").mkdir(parents=True, exist_ok=True)
        case "COPY":
            *sources, dest = shlex.split(step.rest)
            copy_context(root, sources, Path(f"{box.root}{box.directory}") / dest)
        case "ARG" | "ENV":
            name, _, value = step.rest.partition("=")
            known = box.environment.get(name, "")
            box.environment[name] = "".join(shlex.split(value)).replace(f"${name}", known)
        case "RUN":
            return box.run(["/bin/sh", "-c", step.rest])
    return 0


def rehearse(root: Path, binds: list[Path], extra: list[str]) -> int:
    """Run the Dockerfile's steps in a fresh Debian, then its default command, then the extra commands.

    Returns the exit status of the first that fails, or 0.
    """
    steps = parse((root / "Dockerfile").read_text())
    default = [
        word
        for kind in ("ENTRYPOINT", "CMD")
        for step in steps
        if step.keyword == kind
        for word in json.loads(step.rest)
    ]
    last = [
        Instruction(0, "RUN", shlex.join(default)),
        *(Instruction(0, "RUN", command) for command in extra),
    ]
    with tempfile.TemporaryDirectory(prefix="edgepack-docker-") as folder:
        box = Machine(Path(folder), binds)
        for step in [*steps, *last]:
            sys.stderr.write(f"== {step.keyword} {step.rest}\n")
            if status := perform(box, step, root):
                sys.stderr.write(f"Dockerfile:{step.line}: exit status {status}\n")
                return status
    return 0


def main() -> int:
    """Check, and with --run rehearse."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree that holds the Dockerfile")
    parser.add_argument("--run", action="store_true", help="run the steps in a fresh Debian (root, minutes)")
    parser.add_argument("--bind", type=Path, action="append", default=[], help="show this host folder inside")
    parser.add_argument("--then", action="append", default=[], help="run this command inside afterwards")
    options = parser.parse_args()
    found = list(problems(options.root))
    for message in found:
        sys.stderr.write(message + "\n")
    if found:
        return 1
    return rehearse(options.root, options.bind, options.then) if options.run else 0


if __name__ == "__main__":
    sys.exit(main())
