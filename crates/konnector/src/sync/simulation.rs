// Simulated schedules.
