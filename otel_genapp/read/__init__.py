"""Answers from the ledger: sessions and totals."""
