"""Files that appear once and whole, locks, progress and text: the ground.

It imports nothing of ours.
"""
