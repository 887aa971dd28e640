"""Pure domain library: studies, policies, records, adapters, ring codec, aggregation, tasks and scores."""
