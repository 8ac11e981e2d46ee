"""Pneumonia on frontal chest radiographs: see CARD.md."""
