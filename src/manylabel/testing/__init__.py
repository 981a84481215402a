"""Contracts: what an extension of yours has to keep; call these from your own tests."""
