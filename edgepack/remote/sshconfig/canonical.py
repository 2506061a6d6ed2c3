"""The name that a host goes by: lower case, addresses in their usual form, and CanonicalizeHostname."""

import socket

from edgepack.errors import UnreachableError
from edgepack.remote.sshconfig.context import HostOptions
from edgepack.remote.sshconfig.words import in_list

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


def family(context: HostOptions) -> socket.AddressFamily:
    """The addresses that AddressFamily allows."""
    return _FAMILIES.get(context.first("addressfamily") or "any", socket.AF_UNSPEC)


def canonical_name(context: HostOptions) -> str:
    """The name of the host after HostName and, if the configuration asks for it, a look-up in its domains.

    Raises:
        ValueError: HostName has an unknown token.
        UnreachableError: no domain has the host, and CanonicalizeFallbackLocal is no.
    """
    name = context.real_host()
    if (address := _address(name, context)) is not None:
        return address
    if _looks_like_address(name):
        return name
    name = name.lower()
    mode = context.first("canonicalizehostname") or "no"
    direct = all(
        (context.first(option) or "none").lower() == "none" for option in ("proxycommand", "proxyjump")
    )
    if mode != "no" and (direct or mode == "always"):
        found = _look_up(context, name)
        if found is not None:
            return found
    if _cname_rules(context) and (direct or mode == "always"):
        known, alias = _resolve(name, context)
        if not known and direct:
            raise UnreachableError(
                f"the host name {name!r} cannot be resolved",
                why="CanonicalizePermittedCNAMEs asks for its name in the DNS",
                next="correct host in devices.yaml or HostName in ~/.ssh/config, or check the network",
            )
        return _follow(context, name, alias) if mode != "no" else name
    return name


def _look_up(context: HostOptions, name: str) -> str | None:
    if name.endswith("."):
        known, alias = _resolve(name, context)
        if known:
            return _follow(context, name[:-1], alias)
    elif name.count(".") > int(context.first("canonicalizemaxdots") or 1):
        return None
    else:
        for domain in context.values.get("canonicaldomains", ()):
            if domain.lower() == "none":
                break
            full = f"{name}.{domain.lower().removesuffix('.')}"
            known, alias = _resolve(f"{full}.", context)
            if known:
                return _follow(context, full, alias)
    if context.first("canonicalizefallbacklocal") == "no":
        raise UnreachableError(
            f"the host name {name!r} cannot be resolved in CanonicalDomains",
            why="CanonicalizeFallbackLocal is no in the SSH configuration",
            next="correct host in devices.yaml or CanonicalDomains in ~/.ssh/config, or check the network",
        )
    return None


def _cname_rules(context: HostOptions) -> list[tuple[str, str]]:
    rules = context.values.get("canonicalizepermittedcnames", ())
    pairs = [
        ("*", "*") if rule == "*" else tuple(rule.lower().split(":", 1))
        for rule in rules
        if rule.lower() != "none"
    ]
    return [(pair[0], pair[1]) for pair in pairs]


def _follow(context: HostOptions, name: str, alias: str) -> str:
    """The name that the DNS has for ``name``, where CanonicalizePermittedCNAMEs allows it."""
    for sources, targets in _cname_rules(context):
        if alias and in_list(name, sources.split(",")) and in_list(alias, targets.split(",")):
            return alias
    return name


def _resolve(name: str, context: HostOptions) -> tuple[bool, str]:
    """Whether the host exists, and its canonical name in the DNS; empty if that is unknown."""
    try:
        found = socket.getaddrinfo(name, None, family(context), socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    except (OSError, UnicodeError, ValueError):
        return False, ""
    return True, found[0][3].rstrip(".").lower()


def _address(name: str, context: HostOptions) -> str | None:
    """An address in its usual form (``127.1`` is ``127.0.0.1``); None if the name is not an address."""
    try:
        found = socket.getaddrinfo(name, 0, family(context), socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        if len(found) != 1:
            return None
        return socket.getnameinfo(found[0][4], socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    except (OSError, UnicodeError, ValueError):
        return None


def _looks_like_address(name: str) -> bool:
    return "%" in name or ":" in name or not name.strip("0123456789.")
