"""What people see while they wait and when it is done: progress and tables on the terminal."""
