#!/bin/sh
# Installs the Debian packages that edgepack uses when run as root; lists them otherwise.
# usage: system-packages.sh [--tests]    --tests: include the packages for the test suite
set -eu

# program, package, purpose
needs="\
sshd                openssh-server    virtual boards
ssh                 openssh-client    manual access to boards
qemu-aarch64-static qemu-user-static  emulated boards"
tests="
valgrind            valgrind            the agent's leak test
clang               clang               sanitizers and fuzz tests
libclang_rt         libclang-rt-14-dev  sanitizers and fuzz tests
busybox             busybox-static      boards that are not Debian
dropbear            dropbear-bin        a board's SSH server that is not OpenSSH
ld-musl-x86_64.so.1 musl                a board's C library that is not glibc
tcsh                tcsh                login shells of boards
fish                fish                login shells of boards
ksh                 ksh93u+m            login shells of boards
rsync               rsync               the deploy benchmark
mmdebstrap          mmdebstrap          the userland of the ARM benchmark
qemu-aarch64        qemu-user           the instruction counts of the ARM benchmark
llvm-mca-19         llvm-19             the predicted cycles of the ARM benchmark"
[ "${1:-}" != --tests ] || needs="$needs$tests"

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
present() {
    case "$1" in
    libclang_rt)
        for file in /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a; do
            [ ! -e "$file" ] || return 0
        done
        return 1
        ;;
    ld-*) [ -e "/lib/$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}
missing=$(echo "$needs" | while read -r program package _; do
    present "$program" || echo "$package"
done | sort -u | tr '\n' ' ')

# Debian packages ensurepip separately; without it, Python cannot create a virtual environment.
python="${PYTHON:-python3}"
venv=""
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'; then
        echo "edgepack needs Python 3.11 or 3.12, and '$python' is another version: make PYTHON=/path/to/python3.11 ..." >&2
        exit 1
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null || venv="python3-venv "
fi

[ -n "$missing$venv" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Debian packages: $venv$missing" >&2
    # Debian starts services on installation. edgepack needs only the sshd program: the demo must not open
    # an SSH port on this machine.
    case "$missing" in *openssh-server*)
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        fi
        ;;
    esac
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 - lists of package names
    if apt-get -qq update && apt-get -qq install --no-install-recommends $venv$missing >/dev/null; then
        case "$missing" in *openssh-server*)
            if command -v systemctl >/dev/null && systemctl --quiet disable ssh.service 2>/dev/null; then
                echo "openssh-server was installed and its service is disabled; to enable it: systemctl enable --now ssh" >&2
            fi
            ;;
        esac
        # Registers qemu for aarch64 binaries. The package does this itself when services may start on
        # installation; Linux 6.7 and newer do not need it.
        case "$missing" in *qemu-user-static*)
            [ ! -d /run/systemd/system ] || systemctl restart systemd-binfmt.service || true
            ;;
        esac
        exit 0
    fi
    echo "apt-get failed to install them." >&2
fi

echo "These Debian packages are missing: $venv$missing" >&2
echo "  install them with: sudo apt-get install $venv$missing" >&2
echo "$needs" | while read -r _ package purpose; do
    case " $missing" in *" $package "*) echo "  $package: $purpose" >&2 ;; esac
done
if [ -n "$venv" ]; then
    echo "  python3-venv: required to create the virtual environment" >&2
    exit 1
fi
echo "Continuing without them; features that need them will report an error." >&2
