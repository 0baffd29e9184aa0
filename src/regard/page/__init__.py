"""What every HTML page of Regard is made of: escaped text, tables, charts, the shell around them."""
