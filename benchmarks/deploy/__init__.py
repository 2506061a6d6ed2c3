"""Cost of a deploy with edgepack, scp and rsync: ``python -m benchmarks.deploy``.

The link to the board, the two versions, the tools, and the page.
"""
