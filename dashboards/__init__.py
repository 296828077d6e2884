"""What one looks at while a run goes on and when it is over: a Streamlit page over its directory.

Reads the run directory and the faces that it names, writes to neither, and needs no Ray.
"""
