"""Models of a site's own that misbehave on request: the worker opens them as `package.module:Class`."""
