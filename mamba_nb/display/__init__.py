"""Records in, pictures out: tables for pandas, HTML for notebooks, text for terminals, one plot."""
