"""The proxy: gives every service a stable address and spreads its connections over the pods behind it."""
