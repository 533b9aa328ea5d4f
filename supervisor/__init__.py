"""Runs the service on one machine: Triton and the gateway, each started again when it dies."""
