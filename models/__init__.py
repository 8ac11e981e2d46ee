"""What is computed: from a volume to findings."""
