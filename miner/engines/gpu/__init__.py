"""The exact engine on a GPU: what it filters by, what it looks at again, what it keeps."""
