"""How it is done: data -> teacher -> masks -> structure -> recovery -> checkpoint. Knows no web and no database.

Read in this order: `run` (the stages), `coupling` (the three questions), `masks`, `prune`, `fit`, `cut`, `export`.
"""
