"""Collectives between the devices of this machine: right first, then timed, then fitted."""
