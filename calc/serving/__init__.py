"""For many users: batches, loops, queues."""
