"""The validator: predictions of the calculator beside what engines and kernels really did."""
