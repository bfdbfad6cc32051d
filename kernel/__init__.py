"""The vocabulary everybody shares: ids, money, time, codes, errors, limits, state tables.

Pure: imports nothing of ours and no library beyond the standard one. What stands here may be used
by every room; what needs a network, a file or a framework stands somewhere else.
"""
