"""What the simulated users do: choose a location, ask for it, check the answer."""
