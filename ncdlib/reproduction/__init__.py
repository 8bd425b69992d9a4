"""This paper only: its numbers and claims, the ledger, the figures, and the notebooks' workspace."""
