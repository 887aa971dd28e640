"""The site's shell: keys, policy, mirror, trainer and the agent that takes part in rounds."""
