"""Runs the service on one machine: keeps Triton and the gateway running."""
