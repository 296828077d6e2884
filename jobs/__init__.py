"""Wire the parts, submit the whole, and the `facequarry` command. Start reading at pipeline.py."""
