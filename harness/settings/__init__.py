"""From words to a complete configuration: schema, layers of settings, names, suites. Free of torch."""
