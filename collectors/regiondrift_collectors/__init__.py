"""The systems regiondrift can look at: one module (or one package) per system, none knows another."""
