"""What is handed out: files, card and report, loaded again in a fresh process."""
