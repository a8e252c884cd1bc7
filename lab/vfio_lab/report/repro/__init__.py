"""A scenario's record of calls as one C program, for those who have no lab."""
