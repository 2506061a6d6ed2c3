"""The two tuners: each tunes in a process of its own and logs what it does."""
