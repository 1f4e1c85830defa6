"""The dashboard: ``calc`` with inputs to move and figures to look at; it computes nothing itself."""
