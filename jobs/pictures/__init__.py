"""The pictures that verbs leave: triplets, suspects, and what mining found."""
