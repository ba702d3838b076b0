"""What is remembered: tables, and one module per thing stored."""
