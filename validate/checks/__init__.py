"""What ``python -m validate check`` looks at: the host, its devices, what runs on them, and the verdict."""
