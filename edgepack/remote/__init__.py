"""Boards over SSH: sessions, transfers, preflight, install, rollback.

Imports: agent, base, bundle, config, emulation, errors, spec, toolchain.
"""
