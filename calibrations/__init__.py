"""How far real kernels and engines fall short of the roofline: fitted or assumed, dated."""
