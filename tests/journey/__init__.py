"""The whole product from scanner to archive."""
