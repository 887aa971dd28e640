"""Label mappings of open corpora, as TOML files; see `fedmedlora_core.mapping`."""
