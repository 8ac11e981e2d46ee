"""Who may do what on the console, and how the console knows who it is."""
