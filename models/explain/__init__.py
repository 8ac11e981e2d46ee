"""Where a decision came from, and how sure it is: on request, and never a finding by itself."""
