"""What a program is: cascade, plan, tile program, their text, their verifier. Imports nothing of ours."""
