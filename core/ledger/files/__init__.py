"""Files: content-addressed, in a folder or in S3; uploads in parts; folders that go with their request."""
