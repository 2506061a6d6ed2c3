"""The user's SSH configuration, read as OpenSSH reads it, and the endpoints that it describes.

The meaning of each line is that of ssh_config(5); tests/remote/test_sshconfig_openssh.py compares it with ``ssh -G``.

Imports: config, errors.
"""

from edgepack.remote.sshconfig.endpoint import Endpoint, resolve, ssh_dir
from edgepack.remote.sshconfig.options import SSH_PORT

__all__ = ["SSH_PORT", "Endpoint", "resolve", "ssh_dir"]
