"""From scheduled kernels to files: the virtual machine's library."""
