"""What a hostile client does to honest rounds: real processes, real attacks, limits on."""
