"""What a user asks for, as text and as a value."""
