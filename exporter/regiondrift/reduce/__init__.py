"""From what was observed to what is said: pure of I/O and clocks; time comes in as a parameter."""
