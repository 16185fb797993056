"""IR to IR. ``registry.PASSES`` lists every pass by the name that pipelines use."""
