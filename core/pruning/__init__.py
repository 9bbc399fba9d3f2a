"""How it is done: data -> teacher -> masks -> structure -> recovery -> checkpoint. Knows no web and no database.

Read in this order: `job/run` (the stages), `reading`, `training/coupling` (the three questions), `methods`, `scoring`,
`masking`, `export`.
"""
