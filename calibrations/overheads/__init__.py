"""What engines add to their kernels, fitted on measured runs."""
