"""Every compiled loop of the miner."""
