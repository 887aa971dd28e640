"""Pure domain library: studies, policies, records, adapters, the ring codec, aggregation, tasks and scores."""
