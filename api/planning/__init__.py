"""A job before it is accepted: checked against what exists, planned, and told in words."""
