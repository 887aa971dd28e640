"""Pure domain library: studies, policies, records, adapters, the ring codec, aggregation rules, tasks and scores."""
