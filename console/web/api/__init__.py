"""The same for programs: JSON under /api/v1, described by OpenAPI."""
