"""The HTTP face: routes, problems, downloads. Knows all of core but what computes; never
imports torch."""
