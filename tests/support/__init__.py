"""What several test files share: real engines, folders for them, small programs to supervise."""
