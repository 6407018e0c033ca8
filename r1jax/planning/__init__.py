"""What a config needs on a slice of TPUs that is not there: memory, time, and the bill."""
