"""What training costs: memory, seconds and bytes of each profile, computed and measured."""
