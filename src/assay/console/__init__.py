"""What commands share: flags, output, exit codes, and one way to run a session."""
