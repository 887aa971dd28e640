"""What the audit trail costs: a lawful log of any length, and the seconds, bytes and memory it takes."""
