"""What ``differentiate`` is made of: derivatives of scalar functions, adjoints of equations, what is saved, and what is known to be zero."""
