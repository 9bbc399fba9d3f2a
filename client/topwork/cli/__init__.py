"""The command line: commands for any server; those of a server's own machine come with the server."""
