"""What a deploy costs, beside scp and rsync: ``python -m benchmarks.deploy``.

The link to the board, the two versions, the ways to bring them there, and the page of it.
"""
