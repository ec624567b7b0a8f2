"""Parts that several attacks share: steps, schedules, estimates; none is an attack."""
