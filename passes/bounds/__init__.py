"""Lower bounds on data movement: compulsory traffic, partition bounds of Einsums, fused groups, cuts, and exact enumeration of tilings."""
