"""Many runs, in processes of their own."""
