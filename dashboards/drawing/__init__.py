"""How the page shows it: figures, cards, tables. Imports `facts`."""
