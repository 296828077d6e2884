"""What outlives a process: photos to faces, Parquet on disk, run directories, events.

The bottom package of FaceQuarry: it imports none of the others and, outside `actors/`, no Ray.
"""
