"""A photo to its faces, and the meant face to a crop. Imports `disk`, `faces` and `config`."""
