"""Everything that happens on a board, over SSH: sessions, transfers, preflight, install, rollback."""
