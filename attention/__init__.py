"""What one head does with one row of attention."""
