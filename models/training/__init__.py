"""What models are made and tested with: phantoms whose right answer is known."""
