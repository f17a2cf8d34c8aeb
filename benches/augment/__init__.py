"""Turned patches: Voxquarry beside other libraries."""
