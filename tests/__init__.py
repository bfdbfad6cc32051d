"""One tree of tests; each file opens with its goal and method, each test is named by a promise."""
