"""Who calls, what they may do and how much of it, and how their words are kept private on the way."""
