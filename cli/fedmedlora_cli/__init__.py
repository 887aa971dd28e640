"""The console script `fedmedlora`: every role's commands, mounted lazily."""
