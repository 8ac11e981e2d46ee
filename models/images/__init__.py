"""What models of single images share: the gate, thresholds, and what noise and sharpness are."""
