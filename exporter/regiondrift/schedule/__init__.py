"""When is what looked at? One task per target, and a guard around every look."""
