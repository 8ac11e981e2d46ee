"""Real programs that the tests talk to: started on free loopback ports, gone when the test is over."""
