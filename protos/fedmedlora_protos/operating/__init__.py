"""What a process shows of itself to its own operator: log lines, a local page, vital signs.

Nothing here goes to the other party, and nothing here may say what the protocol hides: no note, no update, no
weight, no size, no loss. Whatever is shown comes from a closed list (ADR 0047).
"""
