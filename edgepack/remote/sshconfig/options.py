"""The options of ssh_config(5): which ones there are, and how the value of each that edgepack uses is read."""

import contextlib
import re
import socket
from collections.abc import Callable
from functools import partial

from edgepack.remote.sshconfig.tokens import expand
from edgepack.remote.sshconfig.words import split

Value = tuple[str, ...]  # the words of a value, each in its usual spelling
Reader = Callable[[str], Value]  # from the rest of a line; raises ValueError

SSH_PORT = 22
MAX_SECONDS = 2**31 - 1
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME = re.compile(r"(?:\d+[smhdwSMHDW])*\d*")
_FLAG = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def _words(rest: str) -> list[str]:
    words = split(rest)
    if not words or not words[0]:
        raise ValueError("it has no value")
    return words


def text(rest: str) -> Value:
    """One word."""
    words = _words(rest)
    if len(words) > 1:
        raise ValueError(f"it takes one value, and has {len(words)}; quote a value that contains blanks")
    return (words[0],)


def choice(allowed: dict[str, str], rest: str) -> Value:
    """One of a few words, whatever its case; ``allowed`` gives the usual spelling of each."""
    (word,) = text(rest)
    if word.lower() not in allowed:
        raise ValueError(f"{word!r} is none of {', '.join(allowed)}")
    return (allowed[word.lower()],)


def integer(rest: str) -> Value:
    """A whole number."""
    (word,) = text(rest)
    if not re.fullmatch(r"[+-]?\d{1,9}", word):
        raise ValueError(f"{word!r} is not a number")
    return (str(int(word)),)


def seconds(rest: str) -> Value:
    """A time such as ``90``, ``1m30s`` or ``none``, in seconds (ssh_config(5), TIME FORMATS)."""
    (word,) = text(rest)
    if word == "none":
        return ("none",)
    if not re.fullmatch(_TIME, word):
        raise ValueError(f"{word!r} is not a time such as 90, 30s or 1m30s")
    total = sum(int(count) * _UNITS[unit.lower()] for count, unit in re.findall(r"(\d+)(\D?)", word))
    if total > MAX_SECONDS:
        raise ValueError(f"{word!r} is too long a time")
    return (str(total),)


def port_number(word: str) -> int:
    """A port from 1 to 65535, or the name of a service; raises ValueError."""
    number = int(word) if re.fullmatch(r"\+?\d{1,99}", word) else 0
    if not number:
        with contextlib.suppress(OSError, ValueError):
            number = socket.getservbyname(word, "tcp")
    if not 0 < number < 1 << 16:
        raise ValueError(f"{word!r} is not a port")
    return number


def port(rest: str) -> Value:
    """A port, by number or name."""
    return (str(port_number(text(rest)[0])),)


def names(rest: str) -> Value:
    """Several words, or ``none`` alone, which is the empty list."""
    words = _words(rest)
    if "" in words:
        raise ValueError("one of its values is empty")
    if any(word.lower() == "none" for word in words):
        if len(words) > 1:
            raise ValueError("none stands alone")
        return ("none",)
    return tuple(words)


def command(rest: str) -> Value:
    """A command line: all that follows, without its quotes and comments taken out."""
    split(rest)  # ssh wants balanced quotes here, too
    return (rest.lstrip(" \t\r\n="),)


def split_hop(hop: str) -> tuple[str | None, str, int | None]:
    """The user, host and port of ``[ssh://][user@]host[:port]``, one hop of ProxyJump.

    Raises:
        ValueError: the host is missing, or a part cannot be read.
    """
    bare = hop.removeprefix("ssh://").removesuffix("/") if hop.startswith("ssh://") else hop
    user, at, address = bare.rpartition("@")
    if address.startswith("["):
        host, _, after = address[1:].partition("]")
        colon, number = after[:1], after[1:]
    elif address.count(":") > 1:  # an IPv6 address without brackets
        host, colon, number = address, "", ""
    else:
        host, colon, number = address.partition(":")
    if (at and not user) or not host or colon not in ("", ":"):
        raise ValueError(f"{hop!r} is not [user@]host[:port]")
    return user or None, host, port_number(number) if number else None


def jump(rest: str) -> Value:
    """Hops separated by commas, the first one first, or ``none``."""
    split(rest)
    spec = rest.lstrip(" \t\r\n=").partition("#")[0].rstrip()
    if spec.lower() == "none":
        return ("none",)
    for hop in spec.split(","):
        split_hop(hop)
    return (spec,)


def agent(rest: str) -> Value:
    """The socket of an agent: a path, ``none``, ``SSH_AUTH_SOCK``, or ``$NAME`` of an environment variable."""
    (word,) = text(rest)
    expand(re.sub("%", "%%", word), {}, environment=True)
    if re.match(r"\$(?!\{)", word) and not re.fullmatch(r"\$\w+", word, re.ASCII):
        raise ValueError(f"{word!r} is not $NAME")
    return (word,)


flag = partial(choice, _FLAG)

# The options that edgepack uses. The first value that a configuration gives one is the one that counts.
READERS: dict[str, Reader] = {
    "addressfamily": partial(choice, {word: word for word in ("any", "inet", "inet6")}),
    "bindaddress": text,
    "bindinterface": text,
    "canonicaldomains": names,
    "canonicalizefallbacklocal": flag,
    "canonicalizehostname": partial(choice, {**_FLAG, "always": "always"}),
    "canonicalizemaxdots": integer,
    "canonicalizepermittedcnames": names,
    "casignaturealgorithms": text,
    "certificatefile": text,
    "connecttimeout": seconds,
    "globalknownhostsfile": names,
    "hashknownhosts": flag,
    "hostkeyalgorithms": text,
    "hostkeyalias": text,
    "hostname": text,
    "identitiesonly": flag,
    "identityagent": agent,
    "identityfile": text,
    "ignoreunknown": text,
    "knownhostscommand": command,
    "port": port,
    "proxycommand": command,
    "proxyjump": jump,
    "proxyusefdpass": flag,
    "pubkeyauthentication": partial(choice, {**_FLAG, "unbound": "yes", "host-bound": "yes"}),
    "revokedhostkeys": names,
    "tag": text,
    "user": text,
    "userknownhostsfile": names,
}
ACCUMULATED = ("identityfile", "certificatefile")  # each line adds a value
ALIASES = {"dsaauthentication": "pubkeyauthentication", "identityfile2": "identityfile"}

# The options that have no effect on edgepack: those of OpenSSH 10, of older versions, and of Debian's and Fedora's
# packages. Any other word is refused, as ssh refuses it.
_UNUSED = """
    addkeystoagent afstokenpassing batchmode challengeresponseauthentication channeltimeout checkhostip cipher
    ciphers clearallforwardings compression compressionlevel connectionattempts controlmaster controlpath
    controlpersist dynamicforward enableescapecommandline enablesshkeysign escapechar exitonforwardfailure
    fallbacktorsh fingerprinthash forkafterauthentication forwardagent forwardx11 forwardx11timeout
    forwardx11trusted gatewayports globalknownhostsfile2 gssapiauthentication gssapiclientidentity
    gssapidelegatecredentials gssapikexalgorithms gssapikeyexchange gssapirenewalforcesrekey gssapiserveridentity
    gssapitrustdns hostbasedacceptedalgorithms hostbasedauthentication hostbasedkeytypes ipqos
    kbdinteractiveauthentication kbdinteractivedevices keepalive kerberosauthentication kerberostgtpassing
    kexalgorithms localcommand localforward loglevel logverbose macs nohostauthenticationforlocalhost
    numberofpasswordprompts obscurekeystroketiming passwordauthentication permitlocalcommand permitremoteopen
    pkcs11provider preferredauthentications protocol protocolkeepalives pubkeyacceptedalgorithms
    pubkeyacceptedkeytypes refuseconnection rekeylimit remotecommand remoteforward requesttty requiredrsasize
    rhostsauthentication rhostsrsaauthentication rsaauthentication rsaminsize securitykeyprovider sendenv
    serveralivecountmax serveraliveinterval sessiontype setenv setuptimeout skeyauthentication smartcarddevice
    stdinnull streamlocalbindmask streamlocalbindunlink stricthostkeychecking syslogfacility tcpkeepalive
    tisauthentication tunnel tunneldevice updatehostkeys useblacklistedkeys useprivilegedport
    userknownhostsfile2 useroaming usersh verifyhostkeydns versionaddendum visualhostkey warnweakcrypto
    xauthlocation
"""
UNUSED = frozenset(_UNUSED.split())
