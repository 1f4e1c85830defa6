"""What is given: devices, models, workloads, deployments, with their sources."""
