"""Every compiled loop of the miner, and the arrays they are given. Imports nothing else of ours."""
