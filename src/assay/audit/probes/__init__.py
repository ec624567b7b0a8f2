"""What an audit looks at: each probe asks the model once and returns what it saw as plain numbers."""
