"""Who does what, when: jobs, workers and deliveries."""
