"""Ambassadors: policies that look into a service's connections and say where they go. `policy` is their interface."""
