"""Files of any kind become one Parquet table of typed columns, and what was understood of them is said."""
